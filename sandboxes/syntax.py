"""Parse Python source into syntax trees and literals, from several threads at once."""

from __future__ import annotations

import ast
import threading
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")
_one_at_a_time = threading.Lock()
"""CPython counts the depth of the tree it builds once for all threads (gh-106905, mended in 3.11.8, 3.12.2):
two that parse at the same time can end in a SystemError."""
_TRIES = 5
"""The lock cannot hold other libraries: a traceback that Python 3.11 prints parses its lines, too."""


def syntax_tree(source: bytes | str) -> ast.Module:
    """Parse source without Python's warnings. Raises SyntaxError, ValueError, RecursionError."""
    return _undisturbed(lambda: ast.parse(source))  # noqa: TID251


def literal(source: str | ast.expr) -> Any:
    """Return the value of a literal, as `ast.literal_eval` does.

    Raises ValueError and TypeError for other expressions, and what `syntax_tree` raises.
    """
    return _undisturbed(lambda: ast.literal_eval(source))  # noqa: TID251


def _undisturbed(parse: Callable[[], _T]) -> _T:
    for left in reversed(range(_TRIES)):
        with _one_at_a_time, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return parse()
            except SystemError:
                if not left:
                    raise
    raise AssertionError("the last try returns or raises")
