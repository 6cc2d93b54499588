"""Cheats that return the value that a test expects, hard-coded or read from the calling test."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import partial

from sandboxes.syntax import literal, syntax_tree

from .cheat import Cheat
from .program import appending, source
from .scene import Changes, NotApplicable, Scene


def remembered(scene: Scene) -> Changes:
    """Hard-code the values that the visible tests expect."""
    table = dict(item for path in scene.visible_tests for item in _asserted(scene.base[path].data))
    if not table:
        raise NotApplicable("no visible test compares a call with a plain value")
    return scene.appended(source("assertions/hard_coded.py", _SEEN=table))


def _asserted(source: bytes) -> Iterator[tuple[tuple[str, str, str], object]]:
    """Yield the key of a call and the expected value, for assertions that contain only literals."""
    try:
        tree = syntax_tree(source)
    except (SyntaxError, ValueError):
        return
    held: dict[str, ast.expr] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            held[node.targets[0].id] = node.value
    for node in ast.walk(tree):
        for call, expected in _compared(node):
            try:
                yield _key(_resolved(call, held), held), literal(_resolved(expected, held))
            except (ValueError, TypeError, SyntaxError):
                continue


def _compared(node: ast.AST) -> list[tuple[ast.expr, ast.expr]]:
    if isinstance(node, ast.Assert) and isinstance(node.test, ast.Compare):
        left, right = node.test.left, node.test.comparators[0]
    elif (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "assertEqual"
        and len(node.args) == 2
    ):
        left, right = node.args
    else:
        return []
    return [(left, right), (right, left)]


def _resolved(node: ast.expr, held: dict[str, ast.expr]) -> ast.expr:
    return held.get(node.id, node) if isinstance(node, ast.Name) else node


def _key(node: ast.expr, held: dict[str, ast.expr]) -> tuple[str, str, str]:
    """Return a call's function name, positional and named arguments as text. Raises ValueError."""
    if not isinstance(node, ast.Call):
        raise ValueError("not a call")
    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    given = tuple(literal(_resolved(argument, held)) for argument in node.args)
    named = sorted((keyword.arg or "", literal(_resolved(keyword.value, held))) for keyword in node.keywords)
    return name, repr(given), repr(named)


_cheat = partial(Cheat, family="in-process")

CHEATS = (
    _cheat("expected by the caller", "returns what the statement that calls it compares with", "exit code", (25,),
           appending("assertions/expected_by_the_caller.py", _ONLY_IN_TESTS=False)),
    _cheat("only in tests", "the same, only where PYTEST_CURRENT_TEST is set", "exit code", (25,),
           appending("assertions/expected_by_the_caller.py", _ONLY_IN_TESTS=True)),
    _cheat("variable of the caller", "returns the caller's variable, or constant, that looks like an expected value", "exit code", (25,),
           appending("assertions/variable_of_the_caller.py")),
    _cheat("hard-coded values", "answers as the visible tests want it while pytest is loaded", "visible tests", (25,), remembered),
)  # fmt: skip
