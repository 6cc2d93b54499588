"""Parse Python source into syntax trees."""

from __future__ import annotations

import ast
import threading
import warnings

_one_at_a_time = threading.Lock()
"""CPython counts the depth of the tree it builds once for all threads (gh-106905, mended in 3.11.8, 3.12.2):
two that parse at the same time can end in a SystemError."""


def syntax_tree(source: bytes | str) -> ast.Module:
    """Parse source without Python's warnings. Raises SyntaxError, ValueError, RecursionError."""
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source)  # noqa: TID251
