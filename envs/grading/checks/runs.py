"""The vocabulary of all checks: requests to run tests, the function that runs them, and how a test ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from envs.tasksets.trees import Tree
from envs.testing.run import RunReport


@dataclass(frozen=True)
class RunRequest:
    """One run of tests. The requests of one sandbox run one after another, each in its own process."""

    targets: tuple[str, ...]
    files: Tree = field(default_factory=dict)
    """Files laid over the graded tree, and over the files of earlier requests."""
    reseeded: bool = False
    """Run under a hash seed other than 0. Equal for all requests of a sandbox, whose template fixes the
    seed."""
    profile: bool = False


RunTests = Callable[[Tree, Sequence[RunRequest]], "list[RunReport]"]
"""Runs requests on a tree in one fresh sandbox and returns a report for each, in order. The request during
which the sandbox died, and all later ones, get an empty report.

Raises SandboxError when no sandbox can be started."""


def passed(report: RunReport, test: str) -> bool:
    return report.outcomes.get(test) == "passed"


def ending(report: RunReport, test: str) -> str:
    """Return how a test ended: its outcome, with the type of its exception: `failed (AssertionError)`."""
    outcome, failure = report.outcomes.get(test, "missing"), report.failures.get(test)
    return f"{outcome} ({failure.error})" if failure and outcome != "passed" else outcome
