"""Policies without a model: scripted calls, and the oracle that applies the reference patch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from envs.tools.base import ToolSpec
from envs.types import Observation, StopReason, Task, ToolCall

from ..types import Action, PolicyError
from .oracle import patch_calls

Script = Callable[[Task, Sequence[Observation]], ToolCall]
"""Returns the next call, given the task and all observations, the first one of reset included."""

SUBMIT = ToolCall("", "submit", {})


@dataclass(frozen=True)
class _Line:
    """One line of a script file."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


class ScriptedPolicy:
    """Makes the calls of a script: a callable, or a list of calls to which `submit` is added."""

    def __init__(self, script: Script | Sequence[ToolCall], *, name: str = "scripted") -> None:
        self.name = name
        self._script = script if callable(script) else playing(tuple(script))

    @classmethod
    def from_file(cls, path: Path) -> ScriptedPolicy:
        """Read calls from JSON lines such as `{"name": "view", "arguments": {"path": "a.py"}}`.

        Raises PolicyError naming the line.
        """
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise PolicyError(f"cannot read the script {path}: {error}") from error
        adapter, calls = TypeAdapter(_Line), list[ToolCall]()
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                entry = adapter.validate_json(line)
            except ValidationError as error:
                reason = error.errors(include_url=False)[0]["msg"]
                raise PolicyError(
                    f'{path}:{number}: a script line is {{"name": …, "arguments": {{…}}}}: {reason}'
                ) from error
            calls.append(ToolCall("", entry.name, entry.arguments))
        return cls(calls, name=f"scripted:{path.name}")

    def start(
        self, task: Task, tools: Sequence[ToolSpec], first: Observation, *, seed: int
    ) -> ScriptedSession:
        """Open a session at the start of the script."""
        del tools, seed
        return ScriptedSession(self._script, task, first)

    def close(self) -> None:
        """Do nothing: a script holds no resources."""


class OraclePolicy:
    """Solves a task by its reference patch: `edit` calls, then `test`, then `submit`.

    The upper bound of every evaluation, and the proof that the tools suffice to solve the tasks.
    """

    name = "oracle"

    def start(
        self, task: Task, tools: Sequence[ToolSpec], first: Observation, *, seed: int
    ) -> ScriptedSession:
        """Turn the reference patch into calls. Raises PolicyError when the tools cannot express the patch."""
        del tools, seed
        calls = (*patch_calls(task.reference_patch), ToolCall("", "test", {}))
        return ScriptedSession(playing(calls), task, first)

    def close(self) -> None:
        """Do nothing: the oracle holds no resources."""


class ScriptedSession:
    """The state of a script in one episode."""

    def __init__(self, script: Script, task: Task, first: Observation) -> None:
        self._script = script
        self._task = task
        self._seen = [first]
        self._turn = 0

    def act(self, *, deadline: float) -> Action | StopReason:
        """Return the script's next call."""
        del deadline  # a script answers at once
        self._turn += 1
        call = self._script(self._task, tuple(self._seen))
        return Action((replace(call, id=call.id or f"call_{self._turn}"),))

    def observe(self, observations: Sequence[Observation]) -> None:
        """Store the observations for the script."""
        self._seen += observations

    def fork(self, *, seed: int) -> ScriptedSession:
        """Return a session at the same position of the script."""
        del seed
        other = copy.copy(self)
        other._seen = list(self._seen)
        return other


def playing(calls: tuple[ToolCall, ...]) -> Script:
    """Make a script that plays a list and then submits; the number of observations is its position."""

    def script(_task: Task, seen: Sequence[Observation]) -> ToolCall:
        played = len(seen) - 1
        return calls[played] if played < len(calls) else SUBMIT

    return script
