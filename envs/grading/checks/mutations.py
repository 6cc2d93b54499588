"""Changes of one assertion of a test function that make the assertion fail."""

from __future__ import annotations

import ast
import builtins
import random
from collections.abc import Iterator
from dataclasses import dataclass

from sandboxes.syntax import literal

from .source import Edit, Function, TestSource, called, own_nodes, statements

_OPPOSITES = {
    ast.Lt: (b"<", b">="),
    ast.LtE: (b"<=", b">"),
    ast.Gt: (b">", b"<="),
    ast.GtE: (b">=", b"<"),
    ast.NotEq: (b"!=", b"=="),
    ast.Is: (b"is", b"is not"),
    ast.IsNot: (b"is not", b"is"),
    ast.In: (b"in", b"not in"),
    ast.NotIn: (b"not in", b"in"),
}
_CONSTANTS = {None: b"True", True: b"False", False: b"True"}
"""Operand of `is` -> its mutation."""
_PLAIN = "assertEqual assertEquals assertAlmostEqual assertMultiLineEqual assertCountEqual assertListEqual "
_TYPED = "assertSequenceEqual assertTupleEqual assertSetEqual assertDictEqual"
_EQUALS = frozenset((_PLAIN + _TYPED).split())
_GROWN = {
    "assertAlmostEqual": b"%s + %d",
    "assertCountEqual": b"[*%s, %d]",
    "assertListEqual": b"[*%s, %d]",
    "assertTupleEqual": b"(*%s, %d)",
    "assertSetEqual": b"{*%s, %d}",
    "assertDictEqual": b"{**%s, 'more': %d}",
    "assertMultiLineEqual": b"%s + '%d'",
}
"""Assertion -> an unequal expression of the same type. For other assertions: a pair."""
_PAIR = b"(%s, %d)"
_SWAPPED = {
    one: other
    for pair in (
        ("True", "False"),
        ("In", "NotIn"),
        ("Is", "IsNot"),
        ("IsNone", "IsNotNone"),
        ("IsInstance", "NotIsInstance"),
        ("Greater", "LessEqual"),
        ("GreaterEqual", "Less"),
        ("Regex", "NotRegex"),
    )
    for one, other in (pair, pair[::-1])
} | {"NotEqual": "Equal"}
_RAISES = frozenset({"raises", "assertRaises", "assertRaisesRegex"})
_ERRORS = ("KeyError", "IndexError", "AttributeError", "TypeError", "ValueError", "ZeroDivisionError")
_RARE_ERRORS = ("ZeroDivisionError", "EOFError", "BufferError")
"""Errors that an exception of a project is hardly a kind of."""

SURE, TRUTH, GROWN, DOUBTFUL = range(4)
"""Ranks of mutations: a surely reached comparison whose value keeps its type; a truth; a comparison whose
value changes its type; what a branch may leave out."""


@dataclass(frozen=True)
class Mutation:
    """One mutation of a function."""

    statement: int
    """Number, among the function's own statements, of the one that must fail; -1 for one put at the end."""
    edits: tuple[Edit, ...]
    rank: int
    raises: bool = False
    cases: bool = False
    """Whether the cases of a parametrisation change."""


def draw_mutation(source: TestSource, function: Function, draw: random.Random) -> Mutation | None:
    """Draw one of a function's best mutations; None for one-line functions and generators."""
    first = function.body[0]
    indent = source.data[source.starts[first.lineno - 1] : source.start(first)]
    yields = any(isinstance(node, (ast.Yield, ast.YieldFrom)) for node in own_nodes(function))
    if indent.strip() or not indent or yields:
        return None
    found = list(_mutations(source, function, draw))
    best = min((mutation.rank for mutation in found), default=DOUBTFUL)
    if best == DOUBTFUL:
        return _ending(source, function, indent, draw)
    return draw.choice([mutation for mutation in found if mutation.rank == best])


def _ending(source: TestSource, function: Function, indent: bytes, draw: random.Random) -> Mutation:
    """Append a comparison that does not hold after the last statement."""
    assert function.end_lineno is not None
    place = source.starts[min(function.end_lineno, len(source.starts) - 1)]
    low = draw.randrange(2, 90)
    newline = b"" if source.data[:place].endswith(b"\n") else b"\n"
    text = b"%s%sassert %d == %d\n" % (newline, indent, low, low + draw.randrange(2, 90))
    return Mutation(-1, (Edit(place, place, text),), DOUBTFUL)


def _mutations(source: TestSource, function: Function, draw: random.Random) -> Iterator[Mutation]:
    values = _Values(source, function, draw)
    for number, (statement, direct) in enumerate(statements(function)):
        raises = False
        if isinstance(statement, ast.Assert):
            found = values.truth(statement.test)
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            found = values.method(statement.value)
            raises = called(statement.value) in _RAISES
        elif isinstance(statement, ast.With) and len(statement.items) == 1:
            found, raises = values.raised(statement.items[0].context_expr), True
        else:
            continue
        for edits, rank in found:
            cases = any(edit.end <= source.start(function) for edit in edits)
            yield Mutation(number, edits, rank if direct else DOUBTFUL, raises, cases)


_Found = Iterator[tuple[tuple[Edit, ...], int]]
"""Edits that together make an assertion fail, and their rank."""


class _Values:
    """Mutations of the assertions of one function."""

    def __init__(self, source: TestSource, function: Function, draw: random.Random) -> None:
        self._source, self._function, self._draw = source, function, draw

    def truth(self, node: ast.expr) -> _Found:
        """Make a true expression false."""
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
            for value in node.values:
                yield from self.truth(value)
        elif not isinstance(node, ast.Compare):
            text = self._source.text(node)
            negated = text if text.startswith(b"(") else b"(" + text + b")"
            yield (self._source.replaced(node, b"not " + negated),), TRUTH
        elif len(node.ops) == 1:
            yield from self._comparison(node.left, node.comparators[0], type(node.ops[0]))

    def _comparison(self, left: ast.expr, right: ast.expr, kind: type[ast.cmpop]) -> _Found:
        if kind is ast.Eq:
            yield from self._unequal(left, right, _PAIR)
        elif kind is ast.In and isinstance(left, ast.Constant) and isinstance(left.value, (str, bytes)):
            more, value = "".join(self._draw.choices("jkqvwxz", k=3)), left.value
            longer = value + more if isinstance(value, str) else value + more.encode()
            yield (self._source.replaced(left, repr(longer).encode()),), SURE
        elif kind is ast.Is and isinstance(right, ast.Constant) and right.value in (None, True, False):
            yield (self._source.replaced(right, _CONSTANTS[right.value]),), SURE
        else:
            start, end = self._source.between(left, right)
            between, (symbol, opposite) = self._source.data[start:end], _OPPOSITES[kind]
            if between.count(symbol) == 1 and b"#" not in between:
                yield (Edit(start, end, between.replace(symbol, opposite)),), SURE

    def method(self, node: ast.Call) -> _Found:
        """Make a call of one of unittest's assertions fail."""
        if not isinstance(node.func, ast.Attribute) or any(isinstance(arg, ast.Starred) for arg in node.args):
            return
        name = node.func.attr
        if name in _EQUALS and len(node.args) > 1:
            yield from self._unequal(node.args[0], node.args[1], _GROWN.get(name, _PAIR))
        elif name in ("assertTrue", "assert_") and node.args and isinstance(node.args[0], ast.Compare):
            yield from self.truth(node.args[0])
        elif name in _RAISES:
            yield from self.raised(node)
        elif name.removeprefix("assert") in _SWAPPED and name.startswith("assert"):
            end = self._source.end(node.func)
            swapped = b"assert" + _SWAPPED[name.removeprefix("assert")].encode()
            rank = TRUTH if name in ("assertTrue", "assertFalse") else SURE
            yield (Edit(end - len(name), end, swapped),), rank

    def raised(self, node: ast.expr) -> _Found:
        """Expect another error."""
        if not isinstance(node, ast.Call) or called(node) not in _RAISES or not node.args:
            return
        kind = node.args[0]
        name = kind.id if isinstance(kind, ast.Name) else kind.attr if isinstance(kind, ast.Attribute) else ""
        known = getattr(builtins, name, None)
        if not name:
            return
        if isinstance(known, type) and issubclass(known, BaseException):
            others = [e for e in _ERRORS if not _related(known, getattr(builtins, e))]
        else:
            others = [*_RARE_ERRORS]
        yield (self._source.replaced(kind, self._draw.choice(others or ["EOFError"]).encode()),), SURE

    def _unequal(self, left: ast.expr, right: ast.expr, grown: bytes) -> _Found:
        """Change one side of an equation: where its value is written, or else at the equation."""
        written = [edits for side in (left, right) for edits in self._written(side)]
        if written:
            yield from ((edits, SURE) for edits in written)
            return
        for side in _expected(left, right, self._results()):
            text = grown % (self._source.text(side), self._draw.randrange(100, 9000))
            yield (self._source.replaced(side, text),), GROWN if grown is _PAIR else SURE

    def _results(self) -> set[str]:
        """Return the variables that hold results of calls."""
        return {
            target.id
            for node in own_nodes(self._function)
            if isinstance(node, ast.Assign) and not _calls_nothing(node.value)
            for target in node.targets
            if isinstance(target, ast.Name)
        }

    def _written(self, node: ast.expr) -> Iterator[tuple[Edit, ...]]:
        """Yield changes of a value that is written in the test: itself, by a name, or as a parameter."""
        if isinstance(node, ast.Call) and called(node) == "approx" and node.args:
            node = node.args[0]
            if (edit := self._near(node, far=True)) is not None:
                yield (edit,)
        elif isinstance(node, ast.Name):
            yield from self._named(node.id)
        elif (edit := self._near(node)) is not None:
            yield (edit,)

    def _named(self, name: str) -> Iterator[tuple[Edit, ...]]:
        """Yield changes of a variable's only value, or of a parameter in every case."""
        bound = [node for node in own_nodes(self._function) if isinstance(node, ast.Name) and node.id == name]
        stores = [node for node in bound if isinstance(node.ctx, ast.Store)]
        if len(bound) - len(stores) != 1:
            return  # it is used elsewhere too, perhaps as an argument of what it is compared with
        if not stores:
            yield from self._parameter(name)
            return
        for statement in self._function.body:
            if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
                value = _assigned(statement.targets[0], stores, statement.value)
                edit = self._near(value) if value is not None else None
                if edit is not None:
                    yield (edit,)

    def _parameter(self, name: str) -> Iterator[tuple[Edit, ...]]:
        """Yield a change of a parameter in every case."""
        for decorator in self._function.decorator_list:
            if not (isinstance(decorator, ast.Call) and called(decorator) == "parametrize"):
                continue
            names, given = _parameters(decorator), decorator.args[1:2]
            # Cases that tests share are written out, changed, for this test alone.
            shared = self._source.constant(given[0]) if given else None
            cases = shared or (given[0] if given else None)
            if name not in names or not isinstance(cases, (ast.List, ast.Tuple)):
                continue
            values = [_value_of(case, names.index(name), len(names)) for case in cases.elts]
            edits = [None if value is None else self._near(value) for value in values]
            whole = tuple(edit for edit in edits if edit is not None)
            if whole and len(whole) == len(edits):
                yield (self._source.copied(shared, whole, given[0]),) if shared else whole

    def _near(self, node: ast.expr, *, far: bool = False) -> Edit | None:
        """Return the edit that makes a literal unequal, within its type; None for what is no such literal."""
        text = self._source.text(node)
        before = _literal(text)
        if before is None:
            return None
        leaves = [leaf for leaf in ast.walk(node) if isinstance(leaf, ast.Constant) and _is_value(leaf.value)]
        self._draw.shuffle(leaves)
        for leaf in leaves:
            edit = self._source.replaced(leaf, repr(_other(leaf.value, self._draw, far=far)).encode())
            if _literal(self._source.text(node, edit)) != before:
                return edit
        empty = {"[]": b"[0]", "{}": b"{0: 0}", "()": b"(0,)"}.get(repr(before[0]))
        return self._source.replaced(node, empty) if empty else None


def _literal(text: bytes) -> tuple[object] | None:
    """Return the value of a literal; None for other expressions."""
    try:
        return (literal(text.decode()),)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def _is_value(value: object) -> bool:
    return isinstance(value, (bool, int, float, complex, str, bytes))


def _other(value: object, draw: random.Random, *, far: bool) -> object:
    """Return another value of the same type, above or below."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        near = [value + step for step in (-3, -2, -1, 1, 2, 3) if value < 0 or value + step >= 0]
        return value + draw.choice((2, 3)) * (abs(value) + 1) if far else draw.choice(near)
    if isinstance(value, (float, complex)):
        return value + draw.choice((0.5, 1.5, 2.0)) * (abs(value) + 1 if far else 1)
    if isinstance(value, bytes):
        return _other_text(value.decode("latin-1"), draw).encode("latin-1")
    return _other_text(str(value), draw)


def _other_text(text: str, draw: random.Random) -> str:
    """Return a text with another letter or figure in one place."""
    places = [at for at, character in enumerate(text) if character.isascii() and character.isalnum()]
    if not places:
        return text + draw.choice("abcdefgh")
    at = draw.choice(places)
    kind = "0123456789" if text[at].isdigit() else "abcdefghijklmnopqrstuvwxyz"
    others = [other for other in kind if other != text[at].lower()]
    new = draw.choice(others)
    return text[:at] + (new.upper() if text[at].isupper() else new) + text[at + 1 :]


def _related(one: type, other: type) -> bool:
    return issubclass(one, other) or issubclass(other, one)


def _parameters(decorator: ast.Call) -> list[str]:
    """Return the names of a parametrisation: `"a, b"`, or a list of names."""
    try:
        names = literal(decorator.args[0]) if decorator.args else ""
    except (ValueError, TypeError):
        return []
    given = names.split(",") if isinstance(names, str) else names
    return [str(name).strip() for name in given]


def _value_of(case: ast.expr, place: int, number: int) -> ast.expr | None:
    """Return a parameter's value in one case: `(1, 2)`, `pytest.param(1, 2, id="x")`, or `1`."""
    if isinstance(case, ast.Call):
        return case.args[place] if called(case) == "param" and place < len(case.args) else None
    if number == 1:
        return case
    return case.elts[place] if isinstance(case, (ast.Tuple, ast.List)) and place < len(case.elts) else None


def _assigned(target: ast.expr, stores: list[ast.Name], value: ast.expr) -> ast.expr | None:
    """Return the value of a variable that is stored once: `x = 5`, `y, x = 0, 5`."""
    if [target] == stores:
        return value
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        pairs = zip(target.elts, value.elts, strict=True)
        return next((found for name, found in pairs if [name] == stores), None)
    return None


def _expected(left: ast.expr, right: ast.expr, results: set[str]) -> list[ast.expr]:
    """Return the expected side of an equation: the one that neither calls nor holds the result of a call.

    Both, where that is unclear. A lookup of the expected value by the code under test fails only if just this
    side was changed.
    """
    found = [
        side
        for side in (left, right)
        if _calls_nothing(side) and not (isinstance(side, ast.Name) and side.id in results)
    ]
    return found if len(found) == 1 else [left, right]


def _calls_nothing(node: ast.expr) -> bool:
    return not any(isinstance(child, (ast.Call, ast.Await)) for child in ast.walk(node))
