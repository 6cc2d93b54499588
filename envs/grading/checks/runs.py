"""What every check asks of a sandbox: requests to run tests, how they are run, and how a test ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from envs.tasksets.trees import Tree
from envs.testing.run import RunReport


@dataclass(frozen=True)
class RunRequest:
    """One run of tests. The requests of one sandbox follow each other, each in a process of its own."""

    targets: tuple[str, ...]
    files: Tree = field(default_factory=dict)
    """Laid over the graded tree, and over the files of earlier requests."""
    reseeded: bool = False
    """Under another hash seed than 0: the same for all of a sandbox, which has a template for it."""
    profile: bool = False


RunTests = Callable[[Tree, Sequence[RunRequest]], "list[RunReport]"]
"""Runs requests on a tree in one fresh sandbox: one report for each request, in order. A request during which
the sandbox died, and those after it, have an empty report.

Raises SandboxError when no sandbox can be started.
"""


def passed(report: RunReport, test: str) -> bool:
    return report.outcomes.get(test) == "passed"


def ending(report: RunReport, test: str) -> str:
    """Say how a test ended: its outcome, and the type of the exception that it failed with."""
    outcome, failure = report.outcomes.get(test, "missing"), report.failures.get(test)
    return f"{outcome} ({failure.error})" if failure and outcome != "passed" else outcome
