"""Rename a project's private names wherever they occur.

A name qualifies when it is internal to the project (a private function, class, variable or method, or a name
that neither tests nor documents mention) and unambiguous: no string, keyword, parameter, foreign import or
builtin has the same name.
"""

from __future__ import annotations

import ast
import io
import random
import re
import tokenize
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from itertools import count

from .source import Edit, Source, checked, docstrings, edited
from .survey import Survey

_SHORTEST = 4


def private_names(found: Survey, *, known: Collection[str]) -> set[str]:
    """Return the names that can be renamed, without `known`: words of test names, which grading needs."""
    inside, methods, classes = set[str](), set[str](), _class_names(found)
    declared = set[str]()
    for source in (source for versions in found.product.values() for source in versions):
        inside |= set(_module_level(source.tree))
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ClassDef):
                declared |= {
                    n.target.id
                    for n in node.body
                    if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
                }
                if all(_is_ours(base, classes) for base in node.bases) and not node.keywords:
                    methods |= set(_private_members(node))
    stems = {part for path in found.python for part in path.removesuffix(".py").split("/")}
    never = (
        found.fixed | found.keywords | found.parameters | found.interpolated | found.prose | declared | stems
    )
    never |= set(known)
    if found.composed:
        methods = {name for name in methods if name.strip("_") not in found.spoken}
    inside = {n for n in inside - found.attributes if n.startswith("_") or n not in found.tested}
    return {
        name
        for name in (inside | methods) - never
        if len(name.strip("_")) >= _SHORTEST and not name.startswith("__")
    }


def rename_names(source: Source, names: Mapping[str, str]) -> bytes:
    """Rename name tokens; in comments and docstrings, only names with an underscore or inner capital.

    A name such as `parse` stays in prose, where it may be an ordinary word.
    """
    present = {name: new for name, new in names.items() if name.encode() in source.data}
    if not present:
        return source.data
    edits = list(_edits(source, present))
    if not edits:
        return source.data
    return checked(source.data, edited(source.data, edits), partial(_rename_in, names=present))


def rename_words(text: str, names: Mapping[str, str]) -> str:
    """Replace whole words of a text."""
    if not names:
        return text
    pattern = re.compile(
        rf"(?<!\w)(?:{'|'.join(map(re.escape, sorted(names, key=len, reverse=True)))})(?!\w)"
    )
    return pattern.sub(lambda match: names[match[0]], text)


def _class_names(found: Survey) -> set[str]:
    return {
        node.name
        for versions in found.product.values()
        for source in versions
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ClassDef)
    }


def _is_ours(base: ast.expr, classes: Collection[str]) -> bool:
    """Whether a base class is defined in the project: private members of a library's class must stay."""
    return isinstance(base, ast.Name) and (base.id in classes or base.id == "object")


def _module_level(tree: ast.Module) -> Iterator[str]:
    """Yield names of functions, classes and variables that a module defines."""
    waiting = list[ast.AST](tree.body)
    while waiting:
        node = waiting.pop()
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Assign(targets=targets):
                yield from (target.id for target in targets if isinstance(target, ast.Name))
            case ast.If() | ast.Try() | ast.With():
                waiting.extend(ast.iter_child_nodes(node))


def _private_members(node: ast.ClassDef) -> Iterator[str]:
    """Yield methods and attributes of `self` with a leading underscore."""
    for inner in ast.walk(node):
        match inner:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if name.startswith("_"):
                yield name
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()) if name.startswith("_"):
                yield name


def _edits(source: Source, names: Mapping[str, str]) -> Iterator[Edit]:
    unmistakable = {name: new for name, new in names.items() if "_" in name or name[1:] != name[1:].lower()}
    for token in tokenize.tokenize(io.BytesIO(source.data).readline):
        if token.type not in (tokenize.NAME, tokenize.COMMENT):
            continue
        start = source.at_character(*token.start)
        new = (
            names.get(token.string)
            if token.type == tokenize.NAME
            else rename_words(token.string, unmistakable)
        )
        if new is not None and new != token.string:
            yield Edit(start, start + len(token.string.encode()), new.encode())
    for node in docstrings(source.tree):
        start, end = source.span(node)
        text = source.data[start:end].decode()
        if (new := rename_words(text, unmistakable)) != text:
            yield Edit(start, end, new.encode())


def _rename_in(tree: ast.Module, *, names: Mapping[str, str]) -> None:
    for node in ast.walk(tree):
        for place in ("id", "attr", "arg", "name", "asname"):
            value = getattr(node, place, None)
            if isinstance(value, str):
                setattr(node, place, names.get(value, value))
        if isinstance(node, ast.Global | ast.Nonlocal):
            node.names = [names.get(name, name) for name in node.names]


_BEFORE = ("the", "this", "given", "own", "cur", "our")
_AFTER = ("here", "now", "part", "used", "item", "one")


class Namer:
    """Maps each name to an unused name, deterministically per seed: `_load` to `_given_load`."""

    def __init__(self, seed: int, taken: Collection[str]) -> None:
        self._seed = seed
        self._taken = set(taken)
        self._given: dict[str, str] = {}

    def new(self, name: str) -> str:
        """Return the new name, in the case style of the old name."""
        if name not in self._given:
            self._given[name] = self._found(name)
            self._taken.add(self._given[name])
        return self._given[name]

    def _found(self, name: str) -> str:
        words = [(word, True) for word in _BEFORE] + [(word, False) for word in _AFTER]
        random.Random(f"{self._seed} name {name}").shuffle(words)
        for turn in count():
            for word, before in words:
                new = _joined(name, word + (str(turn) if turn else ""), before=before)
                if new not in self._taken:
                    return new
        raise AssertionError("counting ends")


def _joined(name: str, word: str, *, before: bool) -> str:
    bare = name.lstrip("_")
    lead = name[: len(name) - len(bare)]
    if bare.isupper() and len(bare) > 1:
        return f"{lead}{word.upper()}_{bare}" if before else f"{lead}{bare}_{word.upper()}"
    if bare[:1].isupper():
        return f"{lead}{word.capitalize()}{bare}" if before else f"{lead}{bare}{word.capitalize()}"
    return f"{lead}{word}_{bare}" if before else f"{lead}{bare}_{word}"
