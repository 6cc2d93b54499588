"""A submission: the policy's changed files as data, and the rules that admit, drop or report each file.

The rules depend on no state inside the sandbox.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from sandboxes.base import Sandbox, SandboxError, TreeChanges

from .. import protection
from ..tasksets.taskset import TaskSet
from ..tasksets.trees import Tree, TreeFile, diff_trees, is_safe
from ..types import Task
from .rules import Rules, rules_of

PATH_BYTES, NAME_BYTES = 1_000, 255
"""Limits of a path and of each name in it. Linux allows 4,096 bytes, to which our own folders would add."""
SUBMISSION_BYTES = 8 << 20
"""Size limit of all new and changed files together; files that do not fit are dropped, new ones first."""


_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Submission:
    """The part of a policy's changes that is graded.

    Submission(
        tree,
        patch="--- a/wc.py …",
        put_back=("conftest.py: changed, but it is protected",),
        dropped=("tests/test_mine.py: tests of your own do not travel",),
    )
    """

    tree: Tree
    """The base tree with the admitted changes."""
    patch: str
    """The admitted changes as a diff from the base tree: applied to it, the diff gives `tree`."""
    put_back: tuple[str, ...] = ()
    """Changes of protected paths, one line each. They are not in the tree, so they neither help nor harm."""
    dropped: tuple[str, ...] = ()
    """Other changes that are not graded: the policy's own tests, caches, links."""

    @property
    def left_out(self) -> tuple[str, ...]:
        """All changes that are not graded."""
        return (*self.put_back, *self.dropped)


def collect(sandbox: Sandbox, taskset: TaskSet, task: Task, *, timeout_s: float) -> Submission:
    """Read the policy's changes from its sandbox. Raises SandboxError.

    Whatever else the policy's files cause is no exception: a tree that cannot be read holds no work.
    """
    base = taskset.base_tree(task)
    known = {name: entry.sha256 for name, entry in base.items()}
    try:
        return admit(sandbox.changes(".", known, timeout_s=timeout_s), taskset, task)
    except SandboxError:
        raise
    except Exception as error:
        if not isinstance(error, OSError):  # such as a folder that nobody may read
            _log.exception("a submission of %s could not be admitted", task.id)
        return Submission(dict(base), "", dropped=(f"everything: {type(error).__name__}: {error}",))


def admit(changes: TreeChanges, taskset: TaskSet, task: Task) -> Submission:
    """Sort changes into admitted, put back and dropped."""
    return admit_changes(changes, taskset.base_tree(task), rules_of(taskset, task))


def admit_changes(changes: TreeChanges, base: Tree, rules: Rules) -> Submission:
    """Apply the rules to changes of `base`."""
    tree, put_back, dropped = dict(base), list[str](), list[str]()
    judging = protection.folders_of_tests(base)
    left = SUBMISSION_BYTES
    for path, reason in sorted(changes.skipped.items()):
        (put_back if _is_put_back(path, base, rules) else dropped).append(f"{path}: {reason}")
    now = _changed_files(changes, base)
    sizes = {path: len(entry.data) if entry is not None else 0 for path, entry in now.items()}
    # Changes of files that existed come first, then small new files: a large log must not push them out.
    for path in sorted(now, key=lambda path: (path not in base, sizes[path], path)):
        entry, size = now[path], sizes[path]
        reason = _refusal(path, entry)
        if not reason and path not in base.keys() | rules.allowed and rules.shadows(path):
            reason = "it would stand in for a module that is installed or that tests use"
        if not reason and size > left:
            reason = "more than a submission may hold"
        if _is_put_back(path, base, rules):
            put_back.append(f"{path}: {'removed' if entry is None else 'changed'}, but it is protected")
        elif reason or (protection.is_judging(path, judging) and path not in rules.allowed):
            dropped.append(f"{path}: {reason or 'tests of your own do not travel'}")
        elif entry is None:
            tree.pop(path, None)
        else:
            left -= size
            tree[path] = entry
    for path in sorted(_in_the_way(tree)):
        dropped.append(f"{path}: a folder of that name is there")
        del tree[path]
    return Submission(tree, diff_trees(base, tree), tuple(put_back), tuple(dropped))


def _changed_files(changes: TreeChanges, base: Tree) -> dict[str, TreeFile | None]:
    """Return each changed path with its file, None for a removed one; execute bits are changes too."""
    files: dict[str, TreeFile | None] = {
        path: TreeFile(data, path in changes.executable) for path, data in changes.written.items()
    }
    files |= dict.fromkeys(changes.removed)
    unread = tuple(name for name in changes.skipped if name.endswith("/"))
    for path, entry in base.items() if "..." not in changes.skipped else ():
        known = path not in files and path not in changes.skipped and not path.startswith(unread)
        if known and entry.executable != (path in changes.executable):
            files[path] = TreeFile(entry.data, not entry.executable)
    return files


def _is_put_back(path: str, base: Tree, rules: Rules) -> bool:
    """Whether a path influences how tests run, so that its changes are undone."""
    if path in rules.allowed or not is_safe(path):
        return False
    return path in rules.judges or protection.is_steering(path) or (protection.is_test(path) and path in base)


def _in_the_way(tree: Tree) -> set[str]:
    """Return files at paths that others need as folders, as when a part of a change is dropped."""
    return {folder for path in tree for folder in _folders(path)} & tree.keys()


def _folders(path: str) -> list[str]:
    return [str(folder) for folder in PurePosixPath(path).parents]


def _refusal(path: str, entry: TreeFile | None) -> str:
    if not is_safe(path) or str(PurePosixPath(path)) != path:
        return "outside the tree"
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    if len(encoded) > PATH_BYTES or max(map(len, encoded.split(b"/"))) > NAME_BYTES:
        return "its path is too long"
    if entry is not None and not entry.data and " /" in path:
        return "no patch can name it: it is empty, and a folder's name ends in a space"
    return protection.never_travels(path, entry.data if entry is not None else b"")


def travel_note(path: str, taskset: TaskSet, task: Task, *, exists: bool) -> str:
    """Return what an agent should know about the grading of its change of this path; empty if it is graded.

    The note depends on the name alone: it must not tell which protected files a task's reference changes.
    """
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts:
        return "files outside the repository are not graded"
    if note := protection.note(path, exists, task.judges):
        return note
    if not exists and rules_of(taskset, task).shadows(path):
        return "it would stand in for a module that is installed or that tests use, so it is not graded"
    refused = _refusal(path, None)
    return f"it is not graded: {refused}" if refused else ""


def submission_of(tree: Tree, taskset: TaskSet, task: Task) -> Submission:
    """Make a submission of a tree from elsewhere (a reference, a stored patch), under the same rules."""
    return admit_tree(tree, taskset.base_tree(task), rules_of(taskset, task))


def admit_tree(tree: Tree, base: Tree, rules: Rules) -> Submission:
    """Make a submission of a tree, compared with `base`, under the same rules."""
    changes = TreeChanges(
        written={name: entry.data for name, entry in tree.items() if base.get(name) != entry},
        executable=frozenset(name for name, entry in tree.items() if entry.executable),
        removed=tuple(sorted(base.keys() - tree.keys())),
    )
    return admit_changes(changes, base, rules)


def lay_trusted(tree: Tree, trusted: Mapping[str, TreeFile], allowed: Collection[str]) -> Tree:
    """Lay trusted files over a tree, and drop the tree's own protected files, except `allowed` ones."""
    folders = {folder for path in trusted for folder in _folders(path)}
    judging = protection.folders_of_tests(trusted)
    kept = {
        name: entry
        for name, entry in tree.items()
        if (name in allowed or not _judges(name, trusted, judging))
        and name not in folders
        and trusted.keys().isdisjoint(_folders(name))
    }
    return {**trusted, **kept}


def _judges(name: str, trusted: Collection[str], judging: Collection[str]) -> bool:
    return name in trusted or protection.is_steering(name) or protection.is_judging(name, judging)
