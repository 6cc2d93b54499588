"""One function for each kind of bug: from a site in the syntax tree to replacements of source bytes.

An edit may give an equal program or a program that does not compile (`envs.register.inject.mutate.is_sound`
checks both). Positions are byte offsets, because the syntax tree counts columns in bytes.
"""

from __future__ import annotations

import ast
import bisect
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate

_OPERATORS: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "+"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "/"),
    ast.Mod: ("%", "//"),
    ast.Pow: ("**", "*"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
}
_COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Eq: (r"==", "!="),
    ast.NotEq: (r"!=", "=="),
    ast.Lt: (r"<", ">"),
    ast.LtE: (r"<=", ">="),
    ast.Gt: (r">", "<"),
    ast.GtE: (r">=", "<="),
    ast.Is: (r"is", "is not"),
    ast.IsNot: (r"is\s+not", "is"),
    ast.In: (r"in", "not in"),
    ast.NotIn: (r"not\s+in", "in"),
}
_BOUNDS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
}
# Exchanging the arguments of these fails at once and everywhere: a typing error, not a bug to find.
_TYPED_CALLS = frozenset({"isinstance", "issubclass", "getattr", "setattr", "hasattr", "super", "cast"})
_ATOMS = (ast.Name, ast.Attribute, ast.Call, ast.Subscript, ast.Constant)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class SourceText:
    """A file's bytes, addressed by the lines and columns of its syntax tree."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._starts = [0, *accumulate(len(line) for line in data.splitlines(keepends=True))]

    def offset(self, line: int, column: int) -> int:
        """Return the byte offset of a line (from 1) and a column in bytes (from 0)."""
        return self._starts[line - 1] + column

    def line_of(self, offset: int) -> int:
        """Return the line (from 1) that holds the byte at an offset."""
        return bisect.bisect_right(self._starts, offset)

    def span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        """Return the byte offsets of a node's start and end."""
        assert node.end_lineno is not None and node.end_col_offset is not None, "parsed nodes have an end"
        return self.offset(node.lineno, node.col_offset), self.offset(node.end_lineno, node.end_col_offset)

    def text(self, start: int, end: int) -> str:
        """Return the text between two byte offsets."""
        return self.data[start:end].decode()

    def of(self, node: ast.expr | ast.stmt) -> str:
        """Return a node's text."""
        return self.text(*self.span(node))

    def whole_lines(self, start: int, end: int) -> tuple[int, int] | None:
        """Return the byte offsets of a span's whole lines; None if other code is on these lines."""
        first = self._starts[self.line_of(start) - 1]
        last = min(self._starts[self.line_of(end - 1)], len(self.data))
        alone = not self.data[first:start].strip() and re.fullmatch(
            rb"[ \t]*(#[^\r\n]*)?[\r\n]*", self.data[end:last]
        )
        return (first, last) if alone else None

    def is_remark(self, line: int) -> bool:
        """Return whether a line (from 1) is blank or only a comment."""
        text = self.data[self._starts[line - 1] : self._starts[line]].strip()
        return not text or text.startswith(b"#")


@dataclass(frozen=True)
class Edit:
    """A replacement of the bytes `start` to `end` by `text`."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Scope:
    """The variables of a function: name to the line that first binds the variable."""

    names: dict[str, int]

    @classmethod
    def of(cls, function: ast.FunctionDef | ast.AsyncFunctionDef) -> Scope:
        """Collect parameters and assigned names, except those that comprehensions bind."""
        arguments = function.args
        parameters = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        names = {
            parameter.arg: function.lineno for parameter in parameters if parameter.arg not in ("self", "cls")
        }
        for name in _bound(function):
            names.setdefault(name.id, name.lineno)
        return cls(names)


@dataclass(frozen=True)
class Site:
    """A node that may be changed, with the surrounding syntax."""

    node: ast.AST
    parent: ast.AST
    block: tuple[ast.stmt, ...]
    """The statements of the node's block, if the node is a statement."""
    scope: Scope


Make = Callable[[Site, SourceText, random.Random], Iterator[Edit]]


def _bound(node: ast.AST) -> Iterator[ast.Name]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            yield child
        if not isinstance(
            child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, *_COMPREHENSIONS)
        ):
            yield from _bound(child)


def _between(source: SourceText, start: int, end: int, pattern: str, text: str) -> Iterator[Edit]:
    """Replace the only match of `pattern` between two operands; yield nothing if a comment is there too."""
    gap = source.text(start, end)
    if "#" in gap or not gap.isascii():  # a match counts characters, an edit counts bytes
        return
    matches = list(re.finditer(pattern, gap))
    if len(matches) == 1:
        yield Edit(start + matches[0].start(), start + matches[0].end(), text)


def operator(site: Site, source: SourceText, _: random.Random) -> Iterator[Edit]:
    """`a + b` to `a - b`, `a += b` to `a -= b`, `a and b` to `a or b`."""
    node = site.node
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        formats = isinstance(node.op, ast.Mod) and isinstance(node.left, ast.Constant | ast.JoinedStr)
        before, after = _OPERATORS[type(node.op)]
        if not formats:
            yield from _between(
                source, source.span(node.left)[1], source.span(node.right)[0], re.escape(before), after
            )
    elif isinstance(node, ast.AugAssign) and type(node.op) in _OPERATORS:
        before, after = _OPERATORS[type(node.op)]
        start, end = source.span(node.target)[1], source.span(node.value)[0]
        yield from _between(source, start, end, re.escape(before + "="), after + "=")
    elif isinstance(node, ast.BoolOp) and len(node.values) == 2:
        before, after = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        start, end = source.span(node.values[0])[1], source.span(node.values[1])[0]
        yield from _between(source, start, end, rf"\b{before}\b", after)


def comparison(site: Site, source: SourceText, _: random.Random) -> Iterator[Edit]:
    """`a == b` to `a != b`, `a < b` to `a > b`, `a in b` to `a not in b`."""
    yield from _compared(site, source, _COMPARISONS)


def off_by_one(site: Site, source: SourceText, _: random.Random) -> Iterator[Edit]:
    """`a < b` to `a <= b`, `a[i + 1]` to `a[i + 2]`, `range(n)` to `range(n + 1)`, `n - 1` to `n`."""
    node = site.node
    yield from _compared(site, source, _BOUNDS)
    if _is_position(site):
        assert isinstance(node, ast.Constant) and isinstance(node.value, int), "a position is a number"
        yield Edit(*source.span(node), str(node.value + 1))
        if node.value > 0:
            yield Edit(*source.span(node), str(node.value - 1))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
        last = node.args[min(1, len(node.args) - 1)] if node.args else None
        if isinstance(last, (ast.Name, ast.Call, ast.Attribute)):
            end = source.span(last)[1]
            yield Edit(end, end, " + 1")
            yield Edit(end, end, " - 1")


def boundary_constant(site: Site, source: SourceText, _: random.Random) -> Iterator[Edit]:
    """`limit = 10` to `limit = 11`, `strict=True` to `strict=False`."""
    node = site.node
    if not isinstance(node, ast.Constant) or _is_position(site):
        return
    if isinstance(node.value, bool):
        yield Edit(*source.span(node), str(not node.value))
    elif isinstance(node.value, int) and source.of(node).isdecimal():
        yield Edit(*source.span(node), str(node.value + 1))
        if node.value > 1:
            yield Edit(*source.span(node), str(node.value - 1))


def swapped_arguments(site: Site, source: SourceText, _: random.Random) -> Iterator[Edit]:
    """`f(a, b)` to `f(b, a)`."""
    node = site.node
    if not isinstance(node, ast.Call) or getattr(node.func, "id", "") in _TYPED_CALLS:
        return
    for first, second in zip(node.args, node.args[1:], strict=False):
        if isinstance(first, ast.Starred) or isinstance(second, ast.Starred):
            break
        left, right = source.span(first), source.span(second)
        gap = source.text(left[1], right[0])
        if "#" not in gap:
            yield Edit(left[0], right[1], source.of(second) + gap + source.of(first))


def dropped_statement(site: Site, source: SourceText, _: random.Random) -> Iterator[Edit]:
    """Remove a statement without which the function still runs."""
    node = site.node
    if not isinstance(node, ast.stmt) or not _can_be_dropped(node, site):
        return
    start, end = source.span(node)
    lines = source.whole_lines(start, end)
    if len(site.block) > 1 and lines is not None:
        yield Edit(*lines, "")
    else:
        yield Edit(start, end, "pass")


def wrong_variable(site: Site, source: SourceText, generator: random.Random) -> Iterator[Edit]:
    """Read another variable of the function in place of the right one."""
    node, parent = site.node, site.parent
    if (
        not isinstance(node, ast.Name)
        or not isinstance(node.ctx, ast.Load)
        or node.id not in site.scope.names
    ):
        return
    if isinstance(parent, ast.Call) and parent.func is node:
        return
    others = [name for name, line in site.scope.names.items() if line < node.lineno and name != node.id]
    if others:
        yield Edit(*source.span(node), generator.choice(others))


def inverted_condition(site: Site, source: SourceText, _: random.Random) -> Iterator[Edit]:
    """`if ready` to `if not ready`, `if not ready` to `if ready`.

    Conditions of loops stay, because an inverted loop would not end.
    """
    node, parent = site.node, site.parent
    is_test = isinstance(parent, (ast.If, ast.IfExp)) and parent.test is node
    is_filter = isinstance(parent, ast.comprehension) and any(condition is node for condition in parent.ifs)
    if not (is_test or is_filter) or not isinstance(node, ast.expr):
        return
    start, end = source.span(node)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        gap = re.match(r"not\s*", source.text(start, end))
        assert gap is not None, "a negation starts with `not`"
        yield Edit(start, start + gap.end(), "")
    elif isinstance(node, _ATOMS):
        yield Edit(start, start, "not ")
    elif not isinstance(node, (ast.Compare, ast.NamedExpr)):
        yield Edit(start, end, f"not ({source.of(node)})")


EDITS: dict[str, Make] = {
    "operator": operator,
    "comparison": comparison,
    "off-by-one": off_by_one,
    "boundary constant": boundary_constant,
    "swapped arguments": swapped_arguments,
    "dropped statement": dropped_statement,
    "wrong variable": wrong_variable,
    "inverted condition": inverted_condition,
}


def _compared(
    site: Site, source: SourceText, table: dict[type[ast.cmpop], tuple[str, str]]
) -> Iterator[Edit]:
    node = site.node
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in table:
        before, after = table[type(node.ops[0])]
        start, end = source.span(node.left)[1], source.span(node.comparators[0])[0]
        word = rf"\b{before}\b" if before[0].isalpha() else before
        yield from _between(source, start, end, word, after)


def _is_position(site: Site) -> bool:
    """Return whether a number is a position: in an index, a slice, a range, or a sum."""
    node, parent = site.node, site.parent
    if not isinstance(node, ast.Constant) or type(node.value) is not int:
        return False
    ranges = isinstance(parent, ast.Call) and getattr(parent.func, "id", "") in ("range", "islice")
    shifts = isinstance(parent, ast.BinOp) and isinstance(parent.op, (ast.Add, ast.Sub))
    return isinstance(parent, (ast.Subscript, ast.Slice)) or ranges or shifts


def _can_be_dropped(node: ast.stmt, site: Site) -> bool:
    if isinstance(node, ast.Assign):
        targets = node.targets
        if all(isinstance(target, (ast.Attribute, ast.Subscript)) for target in targets):
            return True
        return all(
            isinstance(target, ast.Name) and site.scope.names.get(target.id, node.lineno) < node.lineno
            for target in targets
        )
    if isinstance(node, ast.Return):
        return not isinstance(site.parent, (ast.FunctionDef, ast.AsyncFunctionDef))
    called = isinstance(node, ast.Expr) and isinstance(node.value, (ast.Call, ast.Await))
    return called or isinstance(node, (ast.AugAssign, ast.Raise, ast.Continue, ast.Break, ast.Delete))
