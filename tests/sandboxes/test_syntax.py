"""Parsing from many threads at once, while the garbage collector hands over between them."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from sandboxes.syntax import syntax_tree

SOURCE = ("def f(a):\n    return [(a, {b: c for b, c in a.items()}) for d in a]\n" * 300).encode()


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
    return len(syntax_tree(SOURCE).body)


@pytest.mark.slow
@pytest.mark.usefixtures("restless")
def test_many_threads_may_parse_at_once() -> None:
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(statements, range(100))) == {300}
