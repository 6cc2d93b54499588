"""Tests that must fail, made from the listed ones: the same file, names and calls, another expectation.

Each altered test ends in an assertion that cannot hold, and on the way each comparison it asserts is asked
of a value that must not be equal: `assert add(2, 3) == 5` becomes `assert (not (add(2, 3) == 8241))`. Honest
code gets to the end and fails there, with a token of that run. What makes tests pass whatever they ask (a
patched framework, results written by somebody else, skipped lines) passes these too; an object that is equal
to everything, or that looks up in the caller's frames what it is compared with, fails before the end.

An altered test keeps its name, and what it was follows it under a name of that run: the twin, which must
pass. Altered source is plain Python without anything of ours to call, and keeps its line numbers up to the
end of the first altered test, so the code under test sees nothing that an ordinary test might not hold.
"""

from __future__ import annotations

import ast
import codecs
import itertools
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

_OPPOSITES = {ast.Lt: ">=", ast.LtE: ">", ast.Gt: "<=", ast.GtE: "<"}
_SYMBOLS = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
_EQUALS = frozenset(
    "assertEqual assertEquals assertAlmostEqual assertCountEqual assertDictEqual assertListEqual "  # noqa: SIM905
    "assertMultiLineEqual assertSequenceEqual assertSetEqual assertTupleEqual".split()
)
_TRUTHS = frozenset({"assertTrue", "assert_"})


@dataclass(frozen=True)
class Altered:
    """One test file whose chosen tests must fail, and their twins pass."""

    data: bytes
    twins: Mapping[str, str]
    """Each altered id, and that of its twin."""
    token: str
    """What the failure of each says, and no other failure does."""


@dataclass(frozen=True)
class _Edit:
    start: int
    end: int
    text: bytes


def alter(path: str, data: bytes, tests: Iterable[str], draw: random.Random) -> Altered | None:
    """Alter those of the tests (ids in this file) whose functions are found; None when none is.

    A file that this Python cannot parse gives None.
    """
    try:
        source = _Source(data)
    except (SyntaxError, ValueError, RecursionError):
        return None
    token = f"{draw.choice(_WORDS)} {draw.getrandbits(40):010x}"
    found: dict[_Function, list[str]] = {}
    for test in tests:
        function = source.function(test.removeprefix(f"{path}::"))
        if function is not None:
            found.setdefault(function, []).append(test)
    edits: list[_Edit] = []
    twins: dict[str, str] = {}
    for function, ids in found.items():
        ending = source.ending(function, token, draw)
        if ending is not None:
            name = f"{function.name}_{''.join(draw.choices('abcdefghijklmnop', k=6))}"
            edits += [*source.comparisons(function, draw), ending, source.twin(function, name)]
            twins |= {test: _renamed(test, name) for test in ids}
    return Altered(_spliced(data, edits), twins, token) if twins else None


def _renamed(test: str, name: str) -> str:
    """The id with another function name; parameters may hold anything."""
    function, bracket, parameters = test.partition("[")
    return f"{function.rpartition('::')[0]}::{name}{bracket}{parameters}"


_Function = ast.FunctionDef | ast.AsyncFunctionDef
_WORDS = ("total", "balance", "remainder", "outcome", "width", "order", "limit", "index", "state", "amount")


class _Source:
    """A test file: its functions by id, its text by node."""

    def __init__(self, data: bytes) -> None:
        data.decode("utf-8")
        if data.startswith(codecs.BOM_UTF8):
            raise ValueError("columns of the first line would be off")
        self.data = data
        self.tree = ast.parse(data)
        self.starts = [0, *itertools.accumulate(map(len, data.splitlines(keepends=True)))]

    def function(self, name: str) -> _Function | None:
        """Find `Class::test[parameters]`, the last definition of each name."""
        scope: Sequence[ast.stmt] = self.tree.body
        found: ast.stmt | None = None
        for part in name.partition("[")[0].split("::"):
            kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
            found = next(
                (one for one in reversed(scope) if isinstance(one, kinds) and one.name == part), None
            )
            if found is None:
                return None
            scope = found.body if isinstance(found, ast.ClassDef) else ()
        return found if isinstance(found, (ast.FunctionDef, ast.AsyncFunctionDef)) else None

    def ending(self, function: _Function, token: str, draw: random.Random) -> _Edit | None:
        """An assertion after the last statement that cannot hold; None where there is no place for it."""
        first = function.body[0]
        indent = self.data[self.starts[first.lineno - 1] : self._start(first)]
        yields = any(isinstance(node, (ast.Yield, ast.YieldFrom)) for node in _own(function))
        if indent.strip() or not indent or yields:
            return None
        place = self._after(function)
        low = draw.randrange(2, 90)
        text = f'assert {low} == {low + draw.randrange(2, 90)}, "{token}"\n'.encode()
        newline = b"" if self.data[:place].endswith(b"\n") else b"\n"
        return _Edit(place, place, newline + indent + text)

    def twin(self, function: _Function, name: str) -> _Edit:
        """The function as it was under another name, to come after it."""
        decorators = [one.lineno for one in function.decorator_list]
        start, place = self.starts[min([function.lineno, *decorators]) - 1], self._after(function)
        definition = self._start(function)
        head = re.sub(rb"(def\s+)\w+", rb"\1" + name.encode(), self.data[definition:place], count=1)
        newline = b"" if head.endswith(b"\n") else b"\n"
        return _Edit(place, place, self.data[start:definition] + head + newline)

    def _after(self, function: _Function) -> int:
        """Where the line after a function begins."""
        assert function.end_lineno is not None
        return self.starts[min(function.end_lineno, len(self.starts) - 1)]

    def comparisons(self, function: _Function, draw: random.Random) -> Iterator[_Edit]:
        for node in _own(function):
            if isinstance(node, ast.Assert):
                yield from self._truth(node.test, draw)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                yield from self._method(node, node.func.attr, draw)

    def _truth(self, node: ast.expr, draw: random.Random) -> Iterator[_Edit]:
        """Edits after which an expression that held asks for what must not hold, and holds again."""
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
            for value in node.values:
                yield from self._truth(value, draw)
        if not isinstance(node, ast.Compare) or len(node.ops) != 1:
            return
        left, right, kind = node.left, node.comparators[0], type(node.ops[0])
        if kind is ast.Eq:
            side = left if _is_literal(left) and not _is_literal(right) else right
            change = self._other(side, draw)
        elif kind in _OPPOSITES:
            change = self._opposite(left, right, kind)
        elif kind is ast.In and isinstance(left, ast.Constant) and isinstance(left.value, (str, bytes)):
            change = self._other(left, draw)
        else:
            return
        if change is not None:
            start, end = self._start(node), self._end(node)
            yield from (_Edit(start, start, b"(not ("), change, _Edit(end, end, b"))"))

    def _opposite(self, left: ast.expr, right: ast.expr, kind: type) -> _Edit | None:
        start, end = self._end(left), self._start(right)
        between = self.data[start:end]
        symbol = _SYMBOLS[kind].encode()
        if between.count(symbol) != 1 or b"#" in between:
            return None
        return _Edit(start, end, between.replace(symbol, _OPPOSITES[kind].encode()))

    def _method(self, node: ast.Call, name: str, draw: random.Random) -> Iterator[_Edit]:
        """The same for unittest's assertions."""
        if name in _TRUTHS and len(node.args) >= 1:
            yield from self._truth(node.args[0], draw)
        plain = len(node.args) in (2, 3) and not node.keywords
        if name not in _EQUALS or not plain or any(isinstance(one, ast.Starred) for one in node.args):
            return
        assert isinstance(node.func, ast.Attribute)
        first, second = node.args[:2]
        one, other = self._text(first), self._text(second)
        changed = self._changed(second, draw)
        message = b", " + self._text(node.args[2]) if len(node.args) == 3 else b""
        if _is_literal(first) and not _is_literal(second):
            one, changed = self._changed(first, draw), other
        receiver = self._text(node.func.value)
        text = b"%s.assertFalse((%s) == (%s)%s)" % (receiver, one, changed, message)
        yield _Edit(self._start(node), self._end(node), text)

    def _other(self, node: ast.expr, draw: random.Random) -> _Edit:
        return _Edit(self._start(node), self._end(node), self._changed(node, draw))

    def _changed(self, node: ast.expr, draw: random.Random) -> bytes:
        """The text of a value that is not equal to this expression's: another literal, or a pair with it."""
        if _is_literal(node):
            return repr(_another(ast.literal_eval(node), draw)).encode()
        return b"(%s, %d)" % (self._text(node), draw.randrange(100, 9000))

    def _text(self, node: ast.expr) -> bytes:
        text = self.data[self._start(node) : self._end(node)]
        bare = isinstance(node, (ast.GeneratorExp, ast.Lambda, ast.NamedExpr, ast.IfExp))
        return b"(" + text + b")" if bare else text

    def _start(self, node: ast.stmt | ast.expr) -> int:
        return self.starts[node.lineno - 1] + node.col_offset

    def _end(self, node: ast.stmt | ast.expr) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self.starts[node.end_lineno - 1] + node.end_col_offset


def _own(function: ast.stmt) -> Iterator[ast.AST]:
    """The nodes of a function without those of functions and classes inside it."""
    pending: list[ast.AST] = list(ast.iter_child_nodes(function))
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            pending += ast.iter_child_nodes(node)


def _is_literal(node: ast.expr) -> bool:
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return value is not Ellipsis


def _another(value: object, draw: random.Random) -> object:
    """A value, of the same type where there is one to make, that is not equal to it."""
    word = f"{draw.choice(_WORDS)}{draw.randrange(100, 9000)}"
    if isinstance(value, str):
        return value + word
    if isinstance(value, (int, float, complex)) and not isinstance(value, bool):
        return value + draw.randrange(3, 9000)
    if isinstance(value, (list, tuple)):
        return type(value)((*value, word))
    if isinstance(value, dict):
        return {**value, word: word}
    return value + word.encode() if isinstance(value, bytes) else word


def _spliced(data: bytes, edits: Sequence[_Edit]) -> bytes:
    """Apply edits that do not overlap; those at one place in their order."""
    parts: list[bytes] = []
    at = 0
    for edit in sorted(edits, key=lambda one: (one.start, one.end)):
        if edit.start < at:  # a comparison inside a call that is replaced whole
            continue
        parts += [data[at : edit.start], edit.text]
        at = edit.end
    return b"".join([*parts, data[at:]])
