"""What every tool is made of: its contract, its error, and how it reads and writes a file."""

from __future__ import annotations

import io
import posixpath
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as validated

from sandboxes.base import Sandbox

from ..search.embedder import Embedder
from ..tasksets.taskset import TaskSet
from ..types import Task

FILE_S = 10.0
"""Deadline of one file operation or search."""

_arguments = validated(frozen=True, config=ConfigDict(extra="forbid"))


class ToolError(Exception):
    """The tool was used wrongly. Its sentence is what the policy sees."""


@dataclass(frozen=True)
class ToolSpec:
    """A tool as the policy is told of it: a name, one paragraph, and JSON Schema parameters."""

    name: str
    description: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class ToolContext:
    """What a tool may touch."""

    sandbox: Sandbox
    taskset: TaskSet
    task: Task
    embedder: Embedder | None = None


class Tool(Protocol):
    """One call of a tool, its arguments checked."""

    def run(self, at: ToolContext) -> str:
        """Do it and return what the policy sees. Raises ToolError, SandboxError."""
        ...


Path = Annotated[str, Field(min_length=1, description="Path in the repository.")]
Line = Annotated[int, Field(ge=1)]


def _read(sandbox: Sandbox, path: str) -> str:
    return sandbox.read(path, timeout_s=FILE_S).decode("utf-8", "surrogateescape")


def _write(sandbox: Sandbox, path: str, text: str) -> None:
    sandbox.write(path, text.encode("utf-8", "surrogateescape"), timeout_s=FILE_S)


def _relative(task: Task, path: str) -> str:
    """Return a path as the tree names it, whether it was given from the repository's folder or from `/`."""
    plain = posixpath.normpath(path.strip()) if path.strip() else ""
    return plain.removeprefix(f"{task.workdir}/") if plain != task.workdir else "."


def _lines(text: str) -> list[str]:
    """Split at newlines only, ends kept: form feeds and lone carriage returns belong to their line."""
    return [*io.StringIO(text, newline="\n")]
