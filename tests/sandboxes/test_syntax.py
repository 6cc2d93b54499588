"""Parsing from many threads at once, while the garbage collector hands over between them."""

from __future__ import annotations

import ast
import gc
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import pytest

from sandboxes.syntax import literal, syntax_tree

SOURCE = ("def f(a):\n    return [(a, {b: c for b, c in a.items()}) for d in a]\n" * 300).encode()

LITERAL = f"[{'(1, 2), ' * 2000}]"


class Cycle:
    """Garbage whose end runs Python code, and so lets another thread in."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        sum(range(100))


@pytest.fixture
def restless() -> Iterator[None]:
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(1e-6)
    gc.set_threshold(50)
    yield
    sys.setswitchinterval(interval)
    gc.set_threshold(*threshold)


def statements(_: int) -> int:
    for _ in range(50):
        Cycle()
    assert len(literal(LITERAL)) == 2000
    return len(syntax_tree(SOURCE).body)


@pytest.mark.slow
@pytest.mark.usefixtures("restless")
def test_many_threads_may_parse_at_once() -> None:
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(statements, range(100))) == {300}


def test_a_parse_that_another_library_disturbed_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    parse, disturbed = ast.parse, iter((True, True, False))

    def parse_beside_others(source: str, **more: str) -> ast.AST:
        if next(disturbed):
            raise SystemError("AST constructor recursion depth mismatch")
        return parse(source, **more)

    monkeypatch.setattr(ast, "parse", parse_beside_others)
    assert literal("(1, 2)") == (1, 2)
    monkeypatch.setattr(ast, "parse", Mock(side_effect=SystemError("still")))
    with pytest.raises(SystemError):
        syntax_tree("a")


@pytest.mark.parametrize("text", ["f()", "a", "1 +", "(" * 500 + ")" * 500])
def test_other_expressions_are_no_literals(text: str) -> None:
    with pytest.raises((ValueError, SyntaxError, RecursionError, MemoryError)):
        literal(text)
