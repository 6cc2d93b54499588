"""A submission: the policy's changed files as data, and the rules that admit, drop or report each file.

The rules depend on no state inside the sandbox.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath

from sandboxes.base import Sandbox, TreeChanges

from .. import protection
from ..tasksets.taskset import Runtime, TaskSet
from ..tasksets.trees import Tree, TreeFile, diff_trees, is_safe, is_text, patched_paths
from ..types import Task

SUBMISSION_BYTES = 8 << 20
"""Size limit of all new and changed files together. Files beyond it, in path order, are dropped."""


@dataclass(frozen=True)
class Submission:
    """The part of a policy's changes that is graded.

    Submission(
        tree,
        patch="--- a/wc.py …",
        tampered=("conftest.py: changed, but it is protected",),
        dropped=("tests/test_mine.py: tests of your own do not travel",),
    )
    """

    tree: Tree
    """The base tree with the admitted changes."""
    patch: str
    """The admitted changes as a unified diff from the base tree."""
    tampered: tuple[str, ...] = ()
    """Attempts on protected paths, one line each; these changes are not in the tree."""
    dropped: tuple[str, ...] = ()
    """Harmless changes that are not graded: the policy's own tests, caches, links."""


def collect(sandbox: Sandbox, taskset: TaskSet, task: Task, *, timeout_s: float) -> Submission:
    """Read the policy's changes from its sandbox. Raises SandboxError."""
    base = taskset.base_tree(task)
    known = {name: entry.sha256 for name, entry in base.items()}
    return admit(sandbox.changes(".", known, timeout_s=timeout_s), taskset, task)


def admit(changes: TreeChanges, taskset: TaskSet, task: Task) -> Submission:
    """Sort changes into admitted, dropped and tampering."""
    return admit_changes(changes, taskset.base_tree(task), *_rules(taskset, task))


def _rules(taskset: TaskSet, task: Task) -> tuple[frozenset[str], Runtime]:
    return reference_paths(task.reference_patch), taskset.runtime(task)


@lru_cache(maxsize=4096)
def reference_paths(reference_patch: str) -> frozenset[str]:
    """Return the paths of a reference patch: submissions may change them even if they are protected."""
    return patched_paths(reference_patch) if reference_patch else frozenset()


def admit_changes(
    changes: TreeChanges, base: Tree, allowed: frozenset[str], environment: Runtime | None = None
) -> Submission:
    """Apply the rules to changes of `base`; `allowed` are the protected paths that may be changed.

    With an `environment`, new files must not shadow its installed modules.
    """
    tree, tampered, dropped = dict(base), list[str](), list[str]()
    left = SUBMISSION_BYTES
    for path, reason in sorted(changes.skipped.items()):
        (tampered if _offends(path, base, allowed) else dropped).append(f"{path}: {reason}")
    for path in sorted({*changes.written, *changes.removed}):
        data = changes.written.get(path)
        reason = _refusal(path, data)
        if environment is not None and path not in base.keys() | allowed and not reason:
            tests = environment.tests
            if protection.stands_in(path, tests.import_paths, environment.image.requirements):
                reason = "it would stand in for a module that is installed"
        left -= len(data or b"")
        if left < 0:
            reason = reason or "more than a submission may hold"
        if _offends(path, base, allowed):
            tampered.append(f"{path}: {'removed' if data is None else 'changed'}, but it is protected")
        elif reason or (protection.is_test(path) and path not in allowed):
            dropped.append(f"{path}: {reason or 'tests of your own do not travel'}")
        elif data is None:
            tree.pop(path, None)
        else:
            tree[path] = TreeFile(data, executable=path in changes.executable)
    for path in sorted(_in_the_way(tree)):
        dropped.append(f"{path}: a folder of that name is there")
        del tree[path]
    return Submission(tree, _diff(base, tree), tuple(tampered), tuple(dropped))


def _offends(path: str, base: Tree, allowed: frozenset[str]) -> bool:
    """Whether touching this path is an attempt to influence the verdict."""
    if path in allowed or not is_safe(path):
        return False
    return protection.is_steering(path) or (protection.is_test(path) and path in base)


def _in_the_way(tree: Tree) -> set[str]:
    """Return files at paths that others need as folders, as when a part of a change is dropped."""
    return {folder for path in tree for folder in _folders(path)} & tree.keys()


def _folders(path: str) -> list[str]:
    return [str(folder) for folder in PurePosixPath(path).parents]


def _refusal(path: str, data: bytes | None) -> str:
    if not is_safe(path) or str(PurePosixPath(path)) != path:
        return "outside the tree"
    if data is not None and not is_text(data):
        return "not text"
    return protection.never_travels(path)


def _diff(base: Tree, tree: Tree) -> str:
    """Diff base and submission, without files that were binary in the base."""
    binary = {name for name, entry in base.items() if not is_text(entry.data)}
    kept = {name: entry for name, entry in base.items() if name not in binary}
    return diff_trees(kept, {name: entry for name, entry in tree.items() if name not in binary})


def submission_of(tree: Tree, taskset: TaskSet, task: Task) -> Submission:
    """Make a submission of a tree from elsewhere (a reference, a stored patch), under the same rules."""
    return admit_tree(tree, taskset.base_tree(task), *_rules(taskset, task))


def admit_tree(
    tree: Tree, base: Tree, allowed: frozenset[str], environment: Runtime | None = None
) -> Submission:
    """Make a submission of a tree, compared with `base`, under the same rules."""
    changes = TreeChanges(
        written={name: entry.data for name, entry in tree.items() if base.get(name) != entry},
        executable=frozenset(name for name, entry in tree.items() if entry.executable),
        removed=tuple(sorted(base.keys() - tree.keys())),
    )
    return admit_changes(changes, base, allowed, environment)


def lay_trusted(tree: Tree, trusted: Mapping[str, TreeFile], allowed: Collection[str]) -> Tree:
    """Lay trusted files over a tree, and drop the tree's own protected files, except `allowed` ones."""
    folders = {folder for path in trusted for folder in _folders(path)}
    kept = {
        name: entry
        for name, entry in tree.items()
        if (name in allowed or not protection.is_protected(name))
        and name not in folders
        and trusted.keys().isdisjoint(_folders(name))
    }
    return {**trusted, **kept}
