"""Rename variables and parameters of functions, by scope.

A function and all code nested in it form one region. A name is renamed throughout a region when the region
binds the name, the name has no meaning outside (a module-level name, a builtin, an attribute of an inner
class), and no other code refers to the name: as a keyword argument, in a string, or through `locals()`.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import partial

from .source import Edit, Function, Source, checked, docstrings, edited, outermost_functions

_SEES_ALL = {"locals", "vars", "eval", "exec", "globals", "dir"}
_CUSTOM = {"self", "cls", "mcs", "metacls"}
_HARMLESS = {
    "staticmethod",
    "classmethod",
    "property",
    "setter",
    "getter",
    "deleter",
    "abstractmethod",
    "override",
}


@dataclass
class _Region:
    """The names of a function and of the code nested in it."""

    bound: set[str] = field(default_factory=set)
    parameters: set[str] = field(default_factory=set)
    banned: set[str] = field(default_factory=set)
    closed: bool = False
    """Whether no name can be renamed, since code in the region reads all names, as `locals()` does."""


def rename_variables(
    source: Source,
    *,
    new_name: Callable[[str], str],
    fixed: Collection[str],
    far: Collection[str],
    with_parameters: bool,
) -> tuple[bytes, int]:
    """Rename variables; return the new bytes and the number of names, each counted once per function.

    `fixed` names always stay; `far` names stay where they are parameters.
    """
    outside = _module_names(source.tree) | set(dir(builtins)) | set(fixed)
    functions = outermost_functions(source.tree)
    # Before Python 3.12 the positions of names within f-strings are wrong: the first attempt then fails its
    # check, and the second leaves those names alone.
    for left_alone in (outside, outside | _interpolated(source.tree)):
        plans = [
            {
                name: new_name(name)
                for name in sorted(_renameable(source, function, left_alone, far, with_parameters))
            }
            for function in functions
        ]
        edits = {
            edit
            for function, plan in zip(functions, plans, strict=True)
            for edit in _edits(source, function, plan)
        }
        after = checked(source.data, edited(source.data, edits), partial(_rename_in, plans=plans))
        if after != source.data:
            return after, sum(map(len, plans))
    return source.data, 0


def _interpolated(tree: ast.Module) -> set[str]:
    """Return the names within f-strings."""
    return {
        name.id
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for name in ast.walk(node)
        if isinstance(name, ast.Name)
    }


def _renameable(
    source: Source, function: Function, outside: set[str], far: Collection[str], with_parameters: bool
) -> set[str]:
    region = _region(function)
    if region.closed:
        return set()
    names = region.bound - region.banned - outside - _CUSTOM
    keeps = not with_parameters or function.name.startswith("pytest_") or _is_decorated(function)
    names -= region.parameters if keeps else region.parameters & set(far)
    names = {name for name in names if not name.startswith("__") and name.strip("_")}
    misplaced = {name for at, name in _sites(source, function) if not source.holds(name, at)}
    return names - misplaced


def _is_decorated(function: Function) -> bool:
    """Whether a decorator may depend on the parameters' names."""
    for node in function.decorator_list:
        name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
        if name not in _HARMLESS:
            return True
    return False


def _region(function: Function) -> _Region:
    region = _Region()
    for node in _outside_of(function):
        region.banned |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    for node in ast.walk(function):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                region.bound.add(name)
            case ast.Name(id=name) if name in _SEES_ALL:
                region.closed = True
            case ast.arg(arg=name):
                region.bound.add(name)
                region.parameters.add(name)
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                region.banned |= set(names)
            case ast.alias(name=name, asname=asname):
                region.banned.add(asname or name.partition(".")[0])
            case (
                ast.ExceptHandler(name=str(name))
                | ast.MatchAs(name=str(name))
                | ast.MatchStar(name=str(name))
            ):
                region.banned.add(name)
            case ast.MatchMapping(rest=str(name)):
                region.banned.add(name)
            case ast.ClassDef():
                region.banned |= {node.name} | {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
            case ast.FunctionDef() | ast.AsyncFunctionDef() if node is not function:
                region.banned.add(node.name)
        region.closed |= bool(getattr(node, "type_params", None))
    return region


def _outside_of(function: Function) -> Iterator[ast.AST]:
    """Yield the decorators, defaults and annotations, which the enclosing scope evaluates."""
    yield from function.decorator_list
    arguments = function.args
    yield from (node for node in (*arguments.defaults, *arguments.kw_defaults) if node is not None)
    parameters = (
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        arguments.vararg,
        arguments.kwarg,
    )
    yield from (arg.annotation for arg in parameters if arg is not None and arg.annotation is not None)
    if function.returns is not None:
        yield function.returns


def _module_names(tree: ast.Module) -> set[str]:
    """Return the names used outside functions, and the names declared global in functions."""
    names, waiting = set[str](), list[ast.AST](tree.body)
    while waiting:
        node = waiting.pop()
        match node:
            case ast.Name(id=name):
                names.add(name)
            case ast.alias(name=name, asname=asname):
                names.add(asname or name.partition(".")[0])
            case ast.ExceptHandler(name=str(name)):
                names.add(name)
        if isinstance(node, Function | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, Function):
            names |= {n for inner in ast.walk(node) if isinstance(inner, ast.Global) for n in inner.names}
        else:
            waiting.extend(ast.iter_child_nodes(node))
    return names


def _sites(source: Source, function: Function) -> Iterator[tuple[int, str]]:
    """Yield the byte position and name of every variable of a function."""
    for node in ast.walk(function):
        if isinstance(node, ast.Name):
            yield source.at(node.lineno, node.col_offset), node.id
        elif isinstance(node, ast.arg):
            yield source.at(node.lineno, node.col_offset), node.arg


def _edits(source: Source, function: Function, plan: dict[str, str]) -> Iterator[Edit]:
    for at, name in _sites(source, function):
        if name in plan:
            yield Edit(at, at + len(name.encode()), plan[name].encode())
    for node in docstrings(function):
        start, end = source.span(node)
        text = source.data[start:end]
        new = _in_words(text.decode(), plan).encode()
        if new != text:
            yield Edit(start, end, new)


def _in_words(text: str, plan: dict[str, str]) -> str:
    """Rename parameters in a docstring where markup or position identifies them.

    Examples: `` `name` ``, `*name*`, `:param name:`, and `name (str):` at the start of a line.
    """
    for name, new in plan.items():
        word = re.escape(name)
        text = re.sub(rf"(?<=[`*]){word}(?=[`*])", new, text)
        text = re.sub(rf"(:(?:param|type|arg|keyword)(?: \w+)? ){word}(?=:)", rf"\g<1>{new}", text)
        text = re.sub(rf"(?m)^(\s+){word}(?= ?(?:\([^)\n]*\))?:)", rf"\g<1>{new}", text)
    return text


def _rename_in(tree: ast.Module, *, plans: list[dict[str, str]]) -> None:
    for function, plan in zip(outermost_functions(tree), plans, strict=True):
        for node in ast.walk(function):
            if isinstance(node, ast.Name):
                node.id = plan.get(node.id, node.id)
            elif isinstance(node, ast.arg):
                node.arg = plan.get(node.arg, node.arg)
