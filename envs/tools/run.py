"""The tools `test`, `shell` and `submit`."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from ..testing.run import run_tests
from .base import ToolContext, ToolError, tool
from .text import describe_result, describe_run


@tool
class Test:
    """Run tests: a file, a test id, or, without a target, the tests nearest to the task."""

    __test__: ClassVar[bool] = False  # not a test case, though pytest would think so
    target: str | None = None

    def run(self, at: ToolContext) -> str:
        base = at.taskset.base_tree(at.task)
        targets = [self.target] if self.target else [name for name in at.task.test_files if name in base]
        if any(target.startswith("-") for target in targets):
            raise ToolError("target must be a file or a test id")
        tests = at.taskset.runtime(at.task).tests
        report = run_tests(at.sandbox, tests, targets, timeout_s=at.task.limits.test_s)
        return describe_run(report)


@tool
class Shell:
    """Run a command with sh in the repository's folder."""

    command: Annotated[str, Field(min_length=1)]

    def run(self, at: ToolContext) -> str:
        limits = at.task.limits
        # Both streams, cut inside with a pointer to the whole, must fit into one observation.
        stream_chars = max(limits.observation_chars // 2 - 200, 200)
        result = at.sandbox.exec(self.command, timeout_s=limits.command_s, output_limit=stream_chars)
        return describe_result(result, killed_after_s=limits.command_s)


@tool
class Submit:
    """Hand in the repository as it is now. The hidden tests decide; nothing can be done afterwards."""

    ends_episode = True

    def run(self, at: ToolContext) -> str:  # noqa: ARG002
        return "submitted"
