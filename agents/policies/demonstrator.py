"""Demonstrations for SFT: the reference patch of a task, applied in the steps that a person would take.

Each episode views the lines to change, makes the smallest unambiguous edit, runs the tests and submits. Edits
are small because a policy at the start of training copies text imperfectly: fewer characters, fewer errors.
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
"""Context lines viewed around a change, split unevenly before and after."""
_TOKEN = re.compile(r"\w+|\s+|[^\w\s]+")


class DemonstratorPolicy:
    """Demonstrates the solution of each task; the viewed lines vary with the seed."""

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
        """Do nothing: this policy holds no resources."""


def show_edit(edit: ToolCall, chance: random.Random) -> Iterator[ToolCall]:
    """View the lines around an edit, then make the edit in its smallest form."""
    line = edit.arguments.get("line", edit.arguments.get("insert_line"))
    if line is not None:
        before = chance.randint(1, CONTEXT_LINES - 1)
        start = max(1, int(line) - before)
        window = {"path": edit.arguments["path"], "start": start, "end": start + CONTEXT_LINES}
        yield ToolCall("", "view", window)
    yield ToolCall("", edit.name, smallest(edit.arguments))


def smallest(arguments: dict[str, str | int]) -> dict[str, str | int]:
    """Narrow a one-line replacement to the differing tokens, while these occur once in the line."""
    old, new = str(arguments.get("old", "")), str(arguments["new"])
    if not old or "\n" in old or "\n" in new or "line" not in arguments:
        return arguments
    before, after = _TOKEN.findall(old), _TOKEN.findall(new)
    head = _common(before, after)
    tail = _common(before[head:][::-1], after[head:][::-1])
    for more in range(
        head + tail + 1
    ):  # tokens around the difference, as few as possible; first those after it
        for left in range(max(0, more - tail), min(more, head) + 1):
            start, end = head - left, tail - (more - left)
            part = "".join(before[start : len(before) - end])
            if part and part == part.strip() and old.count(part) == 1:
                return {**arguments, "old": part, "new": "".join(after[start : len(after) - end])}
    return arguments


def _common(left: Sequence[str], right: Sequence[str]) -> int:
    """Count the tokens two sequences start with in common."""
    pairs = zip(left, right, strict=False)
    return next((number for number, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))
