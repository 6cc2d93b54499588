"""A teacher for warm starts: solves a task by its reference patch the way a person would be seen to.

It looks at the lines it is about to change, makes the smallest edit that says what it means, runs the
tests, and submits. Small edits matter: a young policy learns to copy long before it learns to mend, and
every character it need not copy is one it cannot get wrong.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence

from envs.tools.base import ToolSpec
from envs.types import Observation, Task, ToolCall

from .oracle import patch_calls
from .scripted import ScriptedSession, playing

CONTEXT_LINES = 8
"""Shown around a change, unevenly split before and after."""
_TOKEN = re.compile(r"\w+|\s+|[^\w\s]+")


class DemonstratorPolicy:
    """Shows how each task is solved; what it looks at varies with the seed."""

    name = "demonstrator"

    def start(
        self, task: Task, tools: Sequence[ToolSpec], first: Observation, *, seed: int
    ) -> ScriptedSession:
        """Plan the whole episode. Raises PolicyError where tools cannot express the reference patch."""
        del tools
        chance = random.Random(f"{seed} {task.id}")
        calls = [call for edit in patch_calls(task.reference_patch) for call in show_edit(edit, chance)]
        return ScriptedSession(playing((*calls, ToolCall("", "test", {}))), task, first)

    def close(self) -> None:
        """A teacher holds nothing."""


def show_edit(edit: ToolCall, chance: random.Random) -> Iterator[ToolCall]:
    """Look at the place of an edit, then make it as small as it can be."""
    line = edit.arguments.get("line", edit.arguments.get("insert_line"))
    if line is not None:
        before = chance.randint(1, CONTEXT_LINES - 1)
        start = max(1, int(line) - before)
        window = {"path": edit.arguments["path"], "start": start, "end": start + CONTEXT_LINES}
        yield ToolCall("", "view", window)
    yield ToolCall("", edit.name, smallest(edit.arguments))


def smallest(arguments: dict[str, str | int]) -> dict[str, str | int]:
    """Narrow a replacement on one line to the tokens that differ, as long as they occur once there."""
    old, new = str(arguments.get("old", "")), str(arguments["new"])
    if not old or "\n" in old or "\n" in new or "line" not in arguments:
        return arguments
    before, after = _TOKEN.findall(old), _TOKEN.findall(new)
    head = _common(before, after)
    tail = _common(before[head:][::-1], after[head:][::-1])
    while True:
        part = "".join(before[head : len(before) - tail])
        if part and old.count(part) == 1:
            return {**arguments, "old": part, "new": "".join(after[head : len(after) - tail])}
        if not head and not tail:
            return arguments
        head, tail = max(head - 1, 0), max(tail - 1, 0)


def _common(left: Sequence[str], right: Sequence[str]) -> int:
    """Count the tokens two sequences start with in common."""
    pairs = zip(left, right, strict=False)
    return next((number for number, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))
