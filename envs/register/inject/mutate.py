"""Mutations of Python source: every site where a bug can be put, as an exact replacement of bytes.

The syntax tree gives the position and the replacement; the file is never printed from the tree, so
formatting, comments and line endings outside the replaced span do not change. Only code inside functions is
mutated. Left alone: docstrings, annotations, decorators, assertions, f-strings, `if TYPE_CHECKING`,
`__repr__`, log calls, and the arguments of raised exceptions.

Kinds: operator, comparison, off-by-one, boundary constant, swapped arguments, dropped statement, wrong
variable, inverted condition (`envs.register.inject.edits` has one function for each), and a removed body.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator
from dataclasses import dataclass

from ..project.syntax import _FUNCTIONS, _is_type_checking, functions, parse
from .edits import EDITS, Edit, Scope, Site, SourceText

_LOGGERS = frozenset({"log", "logger", "logging", "warnings", "_log", "_logger", "LOG", "LOGGER"})
_SILENT_FUNCTIONS = frozenset({"__repr__", "__del__"})
_DECLARED = frozenset({"overload", "abstractmethod"})
REMOVAL = "removed body"
_NOTHING = "raise NotImplementedError"


@dataclass(frozen=True)
class Mutation:
    """A replacement of the bytes `start` to `end` of a file: `before` becomes `after`."""

    kind: str
    path: str
    line: int
    """Counted from 1, in the unmodified file."""
    function: str
    """Qualified name inside the file, `Class.method`."""
    start: int
    end: int
    before: str
    after: str

    @property
    def place(self) -> str:
        """The mutated function as `path::function`."""
        return f"{self.path}::{self.function}"

    def apply(self, data: bytes) -> bytes:
        """Return the file with the bug, given the unmodified file."""
        assert data[self.start : self.end] == self.before.encode(), f"{self.path} is not the file it was"
        return data[: self.start] + self.after.encode() + data[self.end :]

    def undo(self, data: bytes) -> bytes:
        """Return the unmodified file, given the file with the bug."""
        end = self.start + len(self.after.encode())
        assert data[self.start : end] == self.after.encode(), f"{self.path} does not have this bug"
        return data[: self.start] + self.before.encode() + data[end:]


def find_mutations(path: str, data: bytes, *, seed: int = 0) -> list[Mutation]:
    """Return every one-place bug for a file, in source order; none for a file that is not Python.

    Where a site leaves a choice (such as the variable to read instead), the seed decides. Some mutations give
    an equal or invalid program: call `is_sound` before use.
    """
    tree = parse(data)
    # The columns of the syntax tree do not count a byte order mark.
    if tree is None or data.startswith(b"\xef\xbb\xbf"):
        return []
    source = SourceText(data)
    found: list[Mutation] = []
    for function, qualname in functions(tree):
        if function.name in _SILENT_FUNCTIONS:
            continue
        scope = Scope.of(function)
        generator = random.Random(f"{seed}:{path}:{qualname}")
        for site in _sites(function, scope):
            for kind, make in EDITS.items():
                found += [
                    _mutation(kind, path, qualname, source, edit) for edit in make(site, source, generator)
                ]
    return sorted(set(found), key=lambda bug: (bug.start, bug.end, bug.kind, bug.after))


def find_removals(path: str, data: bytes) -> list[Mutation]:
    """Return a mutation for every function whose body can be removed: signature and docstring stay, and a
    call raises.

    Comments inside the body are removed too. Empty functions and mere declarations have no such mutation.
    """
    tree = parse(data)
    if tree is None or data.startswith(b"\xef\xbb\xbf"):
        return []
    source = SourceText(data)
    return [
        _mutation(REMOVAL, path, qualname, source, edit)
        for function, qualname in functions(tree)
        if function.name not in _SILENT_FUNCTIONS and (edit := _emptied(function, source)) is not None
    ]


def is_sound(mutation: Mutation, data: bytes) -> bool:
    """Return whether the mutation gives a program that compiles and differs from the original."""
    before, after = parse(data), parse(mutation.apply(data))
    return before is not None and after is not None and ast.dump(before) != ast.dump(after)


def _mutation(kind: str, path: str, qualname: str, source: SourceText, edit: Edit) -> Mutation:
    before = source.text(edit.start, edit.end)
    return Mutation(kind, path, source.line_of(edit.start), qualname, edit.start, edit.end, before, edit.text)


def _body(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.stmt]:
    """Return a function's statements without the docstring."""
    first = function.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return function.body[1:] if documented else function.body


def _emptied(function: ast.FunctionDef | ast.AsyncFunctionDef, source: SourceText) -> Edit | None:
    """Return the edit that removes a body with its comments; None for an empty or declared function."""
    names = {
        getattr(decorator, "attr", getattr(decorator, "id", "")) for decorator in function.decorator_list
    }
    body = _body(function)
    if names & _DECLARED or all(isinstance(statement, (ast.Pass, ast.Raise)) for statement in body):
        return None
    start, end = source.span(body[0])[0], source.span(body[-1])[1]
    line = min([body[0].lineno, *[decorator.lineno for decorator in getattr(body[0], "decorator_list", [])]])
    indent = source.text(source.offset(body[0].lineno, 0), start)
    if indent.strip():  # on a line with the signature
        return Edit(start, end, _NOTHING)
    above = function.lineno if body is function.body else function.body[0].end_lineno
    while above is not None and line - 1 > above and source.is_remark(line - 1):
        line -= 1
    lines = source.whole_lines(source.span(body[-1])[0], end)
    if lines is not None:  # a remark after the last statement goes too
        end = lines[0] + len(source.data[slice(*lines)].rstrip())
    return Edit(source.offset(line, 0), end, indent + _NOTHING)


def _sites(function: ast.FunctionDef | ast.AsyncFunctionDef, scope: Scope) -> Iterator[Site]:
    """Yield every node of a function that may be changed."""
    body = _body(function)
    for default in [*function.args.defaults, *[value for value in function.args.kw_defaults if value]]:
        yield from _visit(default, function, (), scope)
    for statement in body:
        yield from _visit(statement, function, tuple(body), scope)


def _visit(node: ast.AST, parent: ast.AST, block: tuple[ast.stmt, ...], scope: Scope) -> Iterator[Site]:
    if _is_left_alone(node):
        return
    yield Site(node, parent, block, scope)
    if isinstance(node, (ast.Raise, ast.Assert, ast.JoinedStr)):
        return  # the statement itself may be dropped; its message is not code under test
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        children = value if isinstance(value, list) else [value]
        statements = tuple(child for child in children if isinstance(child, ast.stmt))
        for child in children:
            if isinstance(child, ast.AST):
                yield from _visit(child, node, statements, scope)


def _is_left_alone(node: ast.AST) -> bool:
    if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
        return True  # visited as functions of their own
    call = node.value if isinstance(node, ast.Expr) else node
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
        owner = call.func.value
        owner_name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
        if owner_name in _LOGGERS:
            return True
    bare_string = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return bare_string or _is_type_checking(node)
