"""Which failing tests a policy cannot read: without any, answering what is visible passes a task."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Sequence

from envs.tasksets.trees import Tree
from envs.types import Task
from sandboxes.syntax import syntax_tree

VISIBLE = "no failing test could be hidden"
"""Reason for which a candidate makes no task."""


def hidden_tests(tests: Sequence[str], base: Tree, graded: Tree) -> tuple[str, ...]:
    """Return the tests that differ between the policy's tree and the graded tree, by their own source.

    A test whose file or function cannot be read as Python differs if its file does. So does a test whose
    cases come from elsewhere in a file that differs.
    """
    return tuple(test for test in tests if _differs(test, base, graded))


def _differs(test: str, base: Tree, graded: Tree) -> bool:
    path, *names = test.partition("[")[0].split("::")
    if path not in base or path not in graded or base[path].data == graded[path].data:
        return base.get(path) != graded.get(path)
    before, after = (_function(tree[path].data, names) for tree in (base, graded))
    if before is None or after is None or ast.dump(before) != ast.dump(after):
        return True
    given = (node for decorator in after.decorator_list for node in _arguments(decorator))
    return any(isinstance(part, ast.Name) for node in given for part in ast.walk(node))


def _arguments(decorator: ast.expr) -> list[ast.expr]:
    return decorator.args if isinstance(decorator, ast.Call) else []


def _function(data: bytes, names: Sequence[str]) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    try:
        body: Iterable[ast.stmt] = syntax_tree(data).body
    except (SyntaxError, ValueError, RecursionError):
        return None
    found: ast.stmt | None = None
    for name in names:
        found = next((node for node in body if getattr(node, "name", None) == name), None)
        body = getattr(found, "body", ())
    return found if isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef) else None


def hiding(tasks: Iterable[Task]) -> dict[str, int]:
    """Count tasks by how many of their failing tests are hidden: `all`, `some`, `none`."""
    found = Counter({"all": 0, "some": 0, "none": 0})
    for task in tasks:
        count = len(task.hidden_tests)
        found["none" if not count else "all" if count == len(task.fail_to_pass) else "some"] += 1
    return dict(found)
