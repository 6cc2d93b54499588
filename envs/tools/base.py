"""The contract of a tool, and the functions that tools of any kind need: reading, writing and naming files.

A tool of your own is a class of this shape; its fields are the arguments, its docstring is the description
for the policy, and its name in a call is the class's name in snake case (`count_words`):

    @tool
    class CountWords:
        "Count the words of a file."

        path: str

        def run(self, at: ToolContext) -> str:
            return f"{len(read_text(at.sandbox, self.path).split())} words"

    CodingEnv(tasksets, tools=["view", "edit", CountWords, "submit"])

Failures of a call: a wrong use raises ToolError, whose sentence becomes the observation; the same holds for
an OSError, such as a missing file. A broken sandbox raises SandboxError, and the episode stays unscored.
Every other exception is a defect of the tool: the policy reads that the tool broke, and the log has the
traceback. It does not end the episode, since nothing that a policy writes may end a run.
"""

from __future__ import annotations

import io
import posixpath
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, TypeVar, dataclass_transform

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as validated

from sandboxes.base import Sandbox

from ..search.embedder import Embedder
from ..tasksets.taskset import TaskSet
from ..types import Task

FILE_S = 10.0
"""Deadline of one file operation or search."""

Class = TypeVar("Class")


@dataclass_transform(frozen_default=True)
def tool(cls: type[Class]) -> type[Class]:
    """Make a class a frozen dataclass whose arguments pydantic checks, unknown ones refused."""
    made: Any = validated(frozen=True, config=ConfigDict(extra="forbid"))(cls)
    return made


class ToolError(Exception):
    """A wrong use of a tool. The policy sees the sentence."""


@dataclass(frozen=True)
class ToolSpec:
    """A tool as the policy reads it: a name, one paragraph, and JSON Schema parameters."""

    name: str
    description: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class ToolContext:
    """Everything that a tool may use."""

    sandbox: Sandbox
    taskset: TaskSet
    task: Task
    embedder: Embedder | None = None


class Tool(Protocol):
    """One call of a tool, with checked arguments.

    A class with the attribute `ends_episode = True` ends the episode with each successful call.
    """

    def run(self, at: ToolContext) -> str:
        """Execute the call and return the observation's text. Raises ToolError, OSError, SandboxError."""
        ...


Path = Annotated[str, Field(min_length=1, description="Path in the repository.")]


def read_text(sandbox: Sandbox, path: str) -> str:
    """Read a file; bytes that are not UTF-8 become surrogates, which `write_text` turns back."""
    return sandbox.read(path, timeout_s=FILE_S).decode("utf-8", "surrogateescape")


def write_text(sandbox: Sandbox, path: str, text: str) -> None:
    sandbox.write(path, text.encode("utf-8", "surrogateescape"), timeout_s=FILE_S)


def path_in_tree(task: Task, path: str) -> str:
    """Return a path relative to the tree, given relative to the repository's folder or absolute."""
    plain = posixpath.normpath(path.strip()) if path.strip() else ""
    return plain.removeprefix(f"{task.workdir}/") if plain != task.workdir else "."


def split_lines(text: str) -> list[str]:
    """Split at newlines only, ends kept: form feeds and lone carriage returns stay inside their line."""
    return [*io.StringIO(text, newline="\n")]
