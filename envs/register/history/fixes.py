"""A past change, split into the code of the fix and the tests that prove it.

Tests, test configuration and CI files (`envs.protection`) go to the grader: the policy never sees how the
change altered these files. The rest of the change is the reference patch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from envs.protection import is_protected, is_test
from envs.tasksets.trees import Tree, diff_trees, is_text
from envs.types import Limits

MAX_FILES = 20
MAX_LINES = 800
"""Largest reference patch, because a larger change is a rewrite or an import of other people's code."""
_CODE = re.compile(
    r"\.(pyi?|[mc]?js|[jt]sx?|go|rs|java|kt|rb|php|p[lm]|lua|c|h|cc|[ch]pp|cs|scala|swift|hs|ml|exs?|erl|clj|r|jl|sh)",
    re.IGNORECASE,
)


class NoTask(Exception):
    """Raised with the reason why a change makes no task, in a few words that can be counted."""


@dataclass(frozen=True)
class Fix:
    """One change as a task: the tree before, the tree after, and the patch of the code between them."""

    base: Tree
    solved: Tree
    """The tree after the change, its tests included."""
    reference_patch: str
    """Unified diff from `base`, without protected files."""
    code: tuple[str, ...]
    """Source files that the change touched."""
    tests: tuple[str, ...]
    """Test files that the change added or altered."""
    lines: int
    """Number of lines that the reference patch adds or removes."""

    @property
    def trusted(self) -> Tree:
        """The files that decide the verdict, in their state after the change."""
        return {path: entry for path, entry in self.solved.items() if is_protected(path)}

    def over(self, added: Tree) -> Fix:
        """Return the same fix with generated files (as an installation would write them) on both sides."""
        return replace(self, base=added | self.base, solved=added | self.solved)


def refuse_by_names(paths: Sequence[str]) -> str:
    """Return why a change to these paths can be no task, or an empty string; reads no file."""
    if not any(is_code(path) for path in paths):
        return "changes no code"
    if not any(is_test(path) for path in paths):
        return "changes no tests"
    if sum(not is_protected(path) for path in paths) > MAX_FILES:
        return "changes too many files"
    return ""


def is_code(path: str) -> bool:
    """Return whether a path is a source file that a fix may change."""
    return bool(_CODE.fullmatch(PurePosixPath(path).suffix)) and not is_protected(path)


def split(base: Tree, after: Tree, left_out: Iterable[str] = ()) -> Fix:
    """Split the change between two trees into reference patch and tests.

    `left_out` holds the changed paths that are not regular files. Raises NoTask.
    """
    changed = sorted(path for path in base.keys() | after.keys() if base.get(path) != after.get(path))
    reason = refuse_by_names(changed)
    if reason:
        raise NoTask(reason)
    if any(left_out):
        raise NoTask("changes a symlink or a submodule")
    tests = tuple(path for path in changed if is_test(path) and path in after)
    if not tests:
        raise NoTask("only removes tests")
    parts = [path for path in changed if not is_protected(path)]
    solved_code = {path: entry for path, entry in base.items() if path not in parts}
    solved_code |= {path: after[path] for path in parts if path in after}
    sides = [side[path] for path in parts for side in (base, after) if path in side]
    if not all(is_text(entry.data) for entry in sides):
        raise NoTask("changes a file that is not text")
    patch = diff_trees(base, solved_code)
    lines = len(_touched_lines(patch))
    if lines > MAX_LINES:
        raise NoTask("changes too many lines")
    return Fix(base, after, patch, tuple(path for path in parts if is_code(path)), tests, lines)


def fitting_limits(reference_patch: str, test_s: float) -> Limits:
    """Return limits that the reference patch fits in: two turns per hunk, and ten times `test_s`, the
    seconds of one test run.
    """
    turns = 10 + 2 * reference_patch.count("\n@@ ")
    return Limits(max_turns=max(Limits.max_turns, turns), test_s=max(20.0, round(10 * test_s, 1)))


def added_lines(patch: str) -> list[str]:
    """Return the lines that a unified diff adds, stripped."""
    return [line[1:].strip() for line in _touched_lines(patch) if line.startswith("+")]


def _touched_lines(patch: str) -> list[str]:
    return [line for line in patch.splitlines() if re.match(r"[+-](?!\+\+ |-- )", line)]


def new_names(fix: Fix) -> list[str]:
    """Return names that a change defines, its tests use, and the base lacks: a solution cannot guess them."""
    known = _names(fix.base, fix.base)
    return sorted((_names(fix.solved, fix.code) & _names(fix.solved, fix.tests)) - known)


def _names(tree: Tree, paths: Iterable[str]) -> set[str]:
    text = "\n".join(tree[path].data.decode("utf-8", "replace") for path in paths if path in tree)
    return set(re.findall(r"[A-Za-z_][A-Za-z0-9_]{2,}", text))
