"""Find the test files of a tree, and the test files among them that import a changed module."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from envs.protection import is_test_module
from envs.tasksets.trees import TreeFile, patched_paths
from envs.testing.run import RunnerSetup
from sandboxes.syntax import syntax_tree

_NAMED_TEST = re.compile(r"test|spec", re.IGNORECASE)


def has_python_tests(setup: RunnerSetup) -> bool:
    """Return whether the runner takes Python test files, which are recognised by their names."""
    return setup.runner in ("pytest", "unittest")


def tests_of(tree: Mapping[str, TreeFile]) -> tuple[str, ...]:
    """Return the files of a tree whose names say that they hold tests, sorted."""
    return tuple(sorted(path for path in tree if is_test_module(path)))


def files_to_run(
    paths: Sequence[str], tree: Mapping[str, TreeFile], setup: RunnerSetup, *, called: Sequence[str] = ()
) -> tuple[str, ...]:
    """Choose the files to run out of `paths`: files with names of tests, else files that define tests.

    Paths in `called` are test files whatever their names are.
    """
    if not has_python_tests(setup):
        return tuple(path for path in paths if _NAMED_TEST.search(PurePosixPath(path).name)) or tuple(paths)
    every = {*tests_of(tree), *called}
    named = tuple(path for path in paths if path in every)
    return named or tuple(path for path in paths if path in tree and _defines_tests(path, tree[path].data))


def _defines_tests(path: str, source: bytes) -> bool:
    name = PurePosixPath(path).name
    return name.endswith(".py") and name != "conftest.py" and b"def test" in source


def tests_near(reference_patch: str, trusted: Mapping[str, TreeFile], setup: RunnerSetup) -> tuple[str, ...]:
    """Return the test files that import a module which the patch changes, or a name out of that module."""
    changed = {name for path in patched_paths(reference_patch) for name in _module_names(path, setup)}
    return tuple(path for path in tests_of(trusted) if changed & set(_imported(trusted[path].data)))


def _module_names(path: str, setup: RunnerSetup) -> Iterator[str]:
    """Yield the dotted names of a module: a name for every import folder that holds the path."""
    if not path.endswith(".py"):
        return
    inside = PurePosixPath(path).with_suffix("")
    parts = inside.parts[:-1] if inside.name == "__init__" else inside.parts
    for folder in setup.import_paths:
        root = PurePosixPath(folder).parts
        if parts[: len(root)] == root and parts[len(root) :]:
            yield ".".join(parts[len(root) :])


def _imported(source: bytes) -> Iterable[str]:
    """Yield every dotted name that a file may import: `a` and `a.b` for `from a import b`."""
    try:
        module = syntax_tree(source)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
