"""Words that the layers share: a session of tests in a clean sandbox, and how a test ended in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from envs.tasksets.trees import Tree
from envs.testing.run import RunReport


@dataclass(frozen=True)
class Session:
    """One run of tests. Those of one sandbox follow each other, each in a process of its own."""

    targets: tuple[str, ...]
    files: Tree = field(default_factory=dict)
    """Laid over the tree before it, over what sessions before it laid."""
    reseeded: bool = False
    """Under another hash seed than 0: the same for all of a sandbox, which has a template for it."""
    profile: bool = False


Runs = Callable[[Tree, Sequence[Session]], "list[RunReport]"]
"""Runs sessions on a tree in one fresh sandbox. A session in which it died, and those after it, gave nothing.

Raises SandboxError when no sandbox can be started.
"""


def passed(report: RunReport, test: str) -> bool:
    return report.outcomes.get(test) == "passed"


def ending(report: RunReport, test: str) -> str:
    """Say how a test ended: its outcome, and the name of what it failed with."""
    outcome, failure = report.outcomes.get(test, "missing"), report.failures.get(test)
    return f"{outcome} ({failure.error})" if failure and outcome != "passed" else outcome
