"""Byte-exact edits of a Python file, checked against its syntax tree.

After an edit the file is parsed again: apart from the intended change and the text of docstrings, the syntax
tree must equal the original syntax tree. A file that fails the check stays unchanged.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

from sandboxes.syntax import syntax_tree

Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Edit:
    """Replace the bytes from `start` up to `end` by `new`."""

    start: int
    end: int
    new: bytes


@dataclass(frozen=True, eq=False)
class Source:
    """A parsed Python file that converts lines and columns to byte positions."""

    data: bytes
    tree: ast.Module

    @cached_property
    def _lines(self) -> list[int]:
        """The byte position of each line's start."""
        starts = [0]
        starts.extend(place + 1 for place, byte in enumerate(self.data) if byte == 0x0A)
        return starts

    def at(self, line: int, column: int) -> int:
        """Return a byte position; lines count from 1, columns in bytes from 0, as in `ast`."""
        return self._lines[line - 1] + column

    def at_character(self, line: int, column: int) -> int:
        """Return a byte position; columns in characters from 0, as in `tokenize`."""
        start, end = self._lines[line - 1], self.data.find(b"\n", self._lines[line - 1])
        return start + len(self.data[start : end if end >= 0 else None].decode()[:column].encode())

    def span(self, node: ast.expr | ast.stmt | ast.alias | ast.arg) -> tuple[int, int]:
        """Return the byte positions of a node's start and end."""
        assert node.end_lineno is not None and node.end_col_offset is not None, "parsed nodes have an end"
        return self.at(node.lineno, node.col_offset), self.at(node.end_lineno, node.end_col_offset)

    def holds(self, word: str, position: int) -> bool:
        """Whether the bytes at a position begin with a word."""
        return self.data.startswith(word.encode(), position)


@lru_cache(maxsize=1024)
def read(data: bytes) -> Source | None:
    """Parse a file; None for non-UTF-8 bytes, unusual line ends, or syntax that this Python rejects."""
    if data.startswith(b"\xef\xbb\xbf") or b"\r" in data or b"\x0c" in data:
        return None
    tree = _parsed(data)
    return None if tree is None else Source(data, tree)


def _parsed(data: bytes) -> ast.Module | None:
    try:
        return syntax_tree(data.decode("utf-8"))
    except (SyntaxError, ValueError, RecursionError):
        return None


def edited(data: bytes, edits: Iterable[Edit]) -> bytes:
    """Apply edits. Of two overlapping edits the later is dropped; `checked` then rejects the result."""
    parts, end = list[bytes](), 0
    for edit in sorted(set(edits), key=lambda edit: (edit.start, edit.end)):
        if edit.start < end:
            continue
        parts += [data[end : edit.start], edit.new]
        end = edit.end
    return b"".join((*parts, data[end:]))


def checked(before: bytes, after: bytes, intended: Callable[[ast.Module], object]) -> bytes:
    """Return `after` if its syntax tree equals the tree of `before` after `intended`, else `before`.

    `intended` applies the intended change to a syntax tree in place.
    """
    if before == after:
        return before
    wanted, got = _parsed(before), _parsed(after)
    if wanted is None or got is None:
        return before
    intended(wanted)
    same = ast.dump(_undocumented(wanted)) == ast.dump(_undocumented(got))
    return after if same else before


def _undocumented(tree: ast.Module) -> ast.Module:
    for node in docstrings(tree):
        node.value = ""
    return tree


def docstrings(tree: ast.AST) -> Iterator[ast.Constant]:
    """Yield every docstring of a statement or module and of all nested statements."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        for block in ("body", "orelse", "finalbody", "handlers", "cases"):
            inner = getattr(node, block, None)
            waiting += inner if isinstance(inner, list) else []
        if isinstance(node, Documented) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                yield first.value


def outermost_functions(tree: ast.Module) -> list[Function]:
    """Return the functions and methods that are not nested in another function, in source order."""
    found, waiting = list[Function](), list[ast.AST](tree.body)
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, Function):
            found.append(node)
        else:
            waiting[:0] = list(ast.iter_child_nodes(node))
    return found
