"""A parsed test file: its functions by id, their statements, and the text of every node."""

from __future__ import annotations

import ast
import codecs
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from sandboxes.syntax import syntax_tree

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Edit:
    """A change of a file's bytes."""

    start: int
    end: int
    text: bytes


class TestSource:
    """A parsed test file: functions by id, text by node."""

    def __init__(self, data: bytes) -> None:
        data.decode("utf-8")
        if data.startswith(codecs.BOM_UTF8):
            raise ValueError("columns of the first line would be off")
        self.data = data
        self.tree = syntax_tree(data)
        self.starts = [0, *itertools.accumulate(map(len, data.splitlines(keepends=True)))]

    def function(self, name: str) -> Function | None:
        """Find `Class::test[parameters]`; of equal names the last definition counts, as in Python."""
        scope: Sequence[ast.stmt] = self.tree.body
        found: ast.stmt | None = None
        for part in name.partition("[")[0].split("::"):
            kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
            found = next(
                (node for node in reversed(scope) if isinstance(node, kinds) and node.name == part), None
            )
            if found is None:
                return None
            scope = found.body if isinstance(found, ast.ClassDef) else ()
        return found if isinstance(found, (ast.FunctionDef, ast.AsyncFunctionDef)) else None

    def replaced(self, node: ast.expr, text: bytes) -> Edit:
        """Return the edit that puts a text in place of a node."""
        return Edit(self.start(node), self.end(node), text)

    def text(self, node: ast.expr, edit: Edit | None = None) -> bytes:
        """Return a node's text, with an edit inside of it, in parentheses where it is no atom."""
        start, end = self.start(node), self.end(node)
        text = self.data[start:end]
        if edit is not None:
            text = text[: edit.start - start] + edit.text + text[edit.end - start :]
        plain = isinstance(
            node, (ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.Constant, ast.List, ast.Dict)
        )
        return text if plain else b"(" + text + b")"

    def constant(self, node: ast.expr) -> ast.expr | None:
        """Return the value of a variable that the module assigns once."""
        if not isinstance(node, ast.Name):
            return None
        found = [
            statement.value
            for statement in self.tree.body
            if isinstance(statement, ast.Assign)
            and [target.id for target in statement.targets if isinstance(target, ast.Name)] == [node.id]
        ]
        return found[0] if len(found) == 1 else None

    def copied(self, node: ast.expr, edits: Iterable[Edit], place: ast.expr) -> Edit:
        """Return the edit that puts a copy of a node, with edits inside of it, in place of another node."""
        start, end = self.start(node), self.end(node)
        inside = [Edit(edit.start - start, edit.end - start, edit.text) for edit in edits]
        return self.replaced(place, spliced(self.data[start:end], inside))

    def between(self, left: ast.expr, right: ast.expr) -> tuple[int, int]:
        """Return start and end of what stands between two nodes."""
        return self.end(left), self.start(right)

    def start(self, node: ast.stmt | ast.expr) -> int:
        """Return the offset in bytes of a node."""
        return self.starts[node.lineno - 1] + node.col_offset

    def end(self, node: ast.stmt | ast.expr) -> int:
        """Return the offset in bytes behind a node."""
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self.starts[node.end_lineno - 1] + node.end_col_offset


@lru_cache(maxsize=64)
def trusted_source(data: bytes) -> TestSource:
    """Parse a task's own test file. Cached, since every grading mutates it."""
    return TestSource(data)


def statements(function: Function) -> Iterator[tuple[ast.stmt, bool]]:
    """Yield a function's own statements in line order, and whether each is surely reached."""
    pending = [(statement, True) for statement in reversed(function.body)]
    while pending:
        statement, direct = pending.pop()
        yield statement, direct
        if not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            inner = [child for child in _blocks(statement) if isinstance(child, ast.stmt)]
            direct = direct and isinstance(statement, ast.With) and not _expects(statement)
            pending += [(child, direct) for child in reversed(inner)]


def _blocks(statement: ast.stmt) -> Iterator[ast.AST]:
    """Yield the direct children of a statement, and those of its handlers and cases."""
    for child in ast.iter_child_nodes(statement):
        yield child
        if isinstance(child, (ast.ExceptHandler, ast.match_case)):
            yield from ast.iter_child_nodes(child)


def _expects(statement: ast.With) -> bool:
    """Whether the block may swallow exceptions: `pytest.raises`, `assertRaises`, `suppress`."""
    text = ast.dump(ast.Tuple([item.context_expr for item in statement.items]))
    return any(word in text for word in ("aises", "suppress", "arn"))


def own_nodes(function: ast.stmt) -> Iterator[ast.AST]:
    """Yield the nodes of a function without those of nested functions and classes."""
    pending: list[ast.AST] = list(ast.iter_child_nodes(function))
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            pending += ast.iter_child_nodes(node)


def called(node: ast.Call) -> str:
    """Return the last part of the name that is called."""
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def spliced(data: bytes, edits: Iterable[Edit]) -> bytes:
    """Apply edits that do not overlap."""
    parts: list[bytes] = []
    at = 0
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        parts += [data[at : edit.start], edit.text]
        at = edit.end
    return b"".join([*parts, data[at:]])
