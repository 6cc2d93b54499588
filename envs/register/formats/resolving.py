"""Resolve a row to trees before and after the fix, a reference patch, and the tests to run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from envs.protection import is_protected, is_test
from envs.tasksets.trees import PatchError, Tree, apply_patch, diff_trees, patched_paths

from .checkouts import Repositories
from .entry import Checkout, Entry, RowError


@dataclass(frozen=True)
class ResolvedEntry:
    """An entry with the trees of its repository."""

    entry: Entry
    base: Tree
    """The tree at the start of an episode."""
    solved: Tree
    """The base tree with the fix and the hidden tests."""
    reference_patch: str
    test_files: tuple[str, ...]
    """Test files that the row names or adds."""
    commit: str
    """The full commit id of the base; empty when the row contains the files."""
    when: str
    """The commit's time, ISO 8601, UTC; empty without a commit."""

    @property
    def trusted(self) -> Tree:
        """The tests and test configuration after the fix, which grading uses."""
        return {path: file for path, file in self.solved.items() if is_protected(path)}

    def over(self, added: Tree) -> ResolvedEntry:
        """Return a copy with generated files added to both trees; the trees' own files take precedence."""
        return replace(self, base=added | self.base, solved=added | self.solved)


def resolve_entry(entry: Entry, repositories: Repositories) -> ResolvedEntry:
    """Check out an entry's base and apply its patches. Raises RowError, which names the failing field."""
    if not isinstance(entry.origin, Checkout):
        return _resolved(entry, entry.origin, entry.origin, "", "")
    found = repositories.base(entry.origin)
    return _resolved(entry, found.tree, found.clean, found.commit, found.when)


def _resolved(entry: Entry, base: Tree, clean: Tree, commit: str, when: str) -> ResolvedEntry:
    reference = entry.reference_patch or _difference("patch", base, clean)
    _check_tests(entry)
    solved = entry.solved
    if not solved:
        fixed = _applied("patch", base, reference)
        solved = _applied("test_patch", fixed, entry.test_patch) | entry.test_tree
    files = _test_files(entry, solved)
    if entry.hides:
        failing = {test.partition("::")[0] for test in entry.fail_to_pass}
        base = {path: file for path, file in base.items() if path not in failing or not is_protected(path)}
    return ResolvedEntry(entry, base, solved, reference, files, commit, when)


def _applied(field: str, tree: Tree, patch: str) -> Tree:
    try:
        return apply_patch(tree, patch)
    except PatchError as error:
        raise RowError(f"{field}: does not apply ({error})") from error


def _difference(field: str, before: Tree, after: Tree) -> str:
    try:
        return diff_trees(before, after)
    except PatchError as error:
        raise RowError(f"{field}: {error}") from error


def _check_tests(entry: Entry) -> None:
    """Raise RowError when the test patch changes other files: grading adds only protected files."""
    try:
        paths = patched_paths(entry.test_patch) if entry.test_patch else frozenset()
    except PatchError as error:
        raise RowError(f"test_patch: is no diff ({error})") from error
    foreign = sorted(path for path in paths if not is_protected(path))
    if foreign:
        raise RowError(f"test_patch: changes {foreign[0]}, which is neither a test nor a setting of tests")


def _test_files(entry: Entry, solved: Tree) -> tuple[str, ...]:
    """Return the test files that the row names in test ids or adds in its test patch."""
    named = _named((*entry.fail_to_pass, *entry.pass_to_pass, *entry.to_pass))
    for field, tests in (("FAIL_TO_PASS", entry.fail_to_pass), ("PASS_TO_PASS", entry.pass_to_pass)):
        missing = sorted(path for path in _named(tests) if path not in solved)
        if missing and field == "FAIL_TO_PASS":
            raise RowError(f"{field}: {missing[0]} is not in the repository")
    brought = patched_paths(entry.test_patch) if entry.test_patch else frozenset()
    candidates = {*named, *brought, *entry.test_tree}
    files = sorted(path for path in candidates if path in solved and _holds_tests(path))
    if not files:
        raise RowError("FAIL_TO_PASS: no Python test file of the repository is named")
    return tuple(files)


def _named(tests: Iterable[str]) -> set[str]:
    return {test.partition("::")[0] for test in tests if "::" in test}


def _holds_tests(path: str) -> bool:
    name = PurePosixPath(path).name
    return is_test(path) and name.endswith(".py") and name not in ("__init__.py", "conftest.py")
