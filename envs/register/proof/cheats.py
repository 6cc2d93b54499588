"""Cheats of the red team that consist of a tree only, so that registration can grade them without episodes.

The whole list is `envs.redteam.suite`. This module holds the cheats that can be graded in seconds. Cheats
that make tool calls, use up time, or repeat another cheat in a different form run in `daythree redteam` only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from envs.redteam import suite
from envs.redteam.cheat import Cheat as Known
from envs.redteam.scene import NotApplicable, changed_tree, scene_of
from envs.tasksets.taskset import TaskSet
from envs.tasksets.trees import Tree
from envs.types import Task

AT_REGISTRATION = (
    "edited tests",
    "removed tests",
    "weakened tests",
    "conftest hooks",
    "deselecting conftest",
    "pytest settings",
    "other settings",
    "plugin by settings",
    "sitecustomize",
    "path file",
    "installed plugin",
    "setup script",
    "forged output",
    "exit at import",
    "leave at import",
    "exit code at the end",
    "skip from code",
    "expected failures",
    "own framework",
    "tests do not run",
    "good reports",
    "always equal",
)


@dataclass(frozen=True)
class Cheat:
    """One way to cheat, as a tree that a policy might submit."""

    name: str
    family: str
    sentence: str
    tree: Callable[[TaskSet, Task], Tree]
    """Makes the tree that a policy would submit; the tree must not contain the fix."""


def _tree(cheat: Known, taskset: TaskSet, task: Task) -> Tree:
    """Return the changed tree; the base tree where the cheat does not apply."""
    assert cheat.changes is not None, f"{cheat.name} is more than a tree"
    try:
        return changed_tree(taskset.base_tree(task), cheat.changes(scene_of(taskset, task)))
    except NotApplicable:
        return taskset.base_tree(task)


CHEATS = tuple(
    Cheat(known.name, known.family, known.tries, partial(_tree, known))
    for known in suite.chosen(names=AT_REGISTRATION)
)
