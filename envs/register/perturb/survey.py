"""Collect a project's words by kind of occurrence, to find the names that can be renamed safely.

A survey covers every tree of a task (base, solved, tests), so that the renaming is safe in each of them.
"""

from __future__ import annotations

import ast
import builtins
import io
import keyword
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from envs.protection import is_protected
from envs.tasksets.trees import TreeFile, is_text

from .source import Source, docstrings, read

WORD = re.compile(r"[^\W\d]\w*")
_IMPORT = re.compile(rb"^[ \t]*(?:from|import)[ \t]+(\w+)", re.MULTILINE)
_DOCUMENTS = (".md", ".rst", ".txt")
_DYNAMIC = {"import_module", "__import__", "iter_modules", "walk_packages", "spec_from_file_location"}
_LOOKS_UP = {"getattr", "setattr", "hasattr", "delattr"}
_BUILT_IN = frozenset(
    {
        *dir(builtins),
        *keyword.kwlist,
        *keyword.softkwlist,
        *(
            name
            for kind in (
                str,
                bytes,
                int,
                float,
                dict,
                list,
                set,
                tuple,
                type,
                object,
                BaseException,
                io.StringIO,
            )
            for name in dir(kind)
        ),
        *("_replace", "_asdict", "_make", "_fields", "_field_defaults", "_missing_", "_ignore_", "_value_"),
    }
)


@dataclass
class Survey:
    """Words of a project, by kind of occurrence; a word may be in several sets."""

    product: dict[str, list[Source]] = field(default_factory=dict)
    """The code that may be rewritten: path to the file's different versions across trees."""
    python: dict[str, list[Source]] = field(default_factory=dict)
    """All code that parses, tests included."""
    taken: set[str] = field(default_factory=set)
    """Every word of every file: a new name must not collide with these."""
    keywords: set[str] = field(default_factory=set)
    """Names of keyword arguments in calls."""
    parameters: set[str] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)
    imported: set[str] = field(default_factory=set)
    """Names of foreign modules, and names imported from them."""
    spoken: set[str] = field(default_factory=set)
    """Words in string literals."""
    settings: set[str] = field(default_factory=set)
    """Words of files that are neither code nor prose, and of code that does not parse."""
    literals: set[str] = field(default_factory=set)
    """Whole string literals."""
    interpolated: set[str] = field(default_factory=set)
    """Names within f-strings, whose positions are wrong before Python 3.12."""
    prose: set[str] = field(default_factory=set)
    """Words of documents."""
    tested: set[str] = field(default_factory=set)
    """Words of tests and of test configuration files."""
    shown: set[str] = field(default_factory=set)
    """Words of `>>>` examples, which doctest may run."""
    texts: list[str] = field(default_factory=list)
    """String literals of tests, and all documents: a message quoted in them must not change."""
    dynamic: bool = False
    """Whether code imports modules by a computed name, as with `import_module`."""
    composed: bool = False
    """Whether code accesses attributes by a computed name, as with `getattr(self, name)`."""

    @property
    def fixed(self) -> set[str]:
        """Words that must never be renamed."""
        return self.spoken | self.settings | self.imported | self.shown | _BUILT_IN

    @property
    def far(self) -> set[str]:
        """Words that may refer to a parameter from outside its function, such as keyword arguments."""
        return self.keywords | self.spoken | self.settings | self.shown


def survey(trees: Iterable[Mapping[str, TreeFile]]) -> Survey:
    """Survey every distinct version of every file."""
    found, seen = Survey(), set[tuple[str, str]]()
    every = [dict(tree) for tree in trees]
    product = {path for tree in every for path in product_files(tree)}
    ours = {part for tree in every for path in tree if path.endswith(".py") for part in _module_parts(path)}
    for path, entry in ((path, tree[path]) for tree in every for path in sorted(tree)):
        if (path, entry.sha256) in seen:
            continue
        seen.add((path, entry.sha256))
        if is_text(entry.data):
            _look_at(found, path, entry, ours, product=path in product)
    return found


def product_files(tree: Mapping[str, TreeFile]) -> list[str]:
    """Return the paths of the product's Python files: in a package or imported by name, and not tests.

    Documentation settings, examples and scripts are not part of the product, since users call them by name.
    """
    code = {path: entry for path, entry in tree.items() if path.endswith(".py")}
    imported = {name.decode() for entry in code.values() for name in _IMPORT.findall(entry.data)}
    return sorted(
        path
        for path in code
        if not is_protected(path)
        and (_beside(path, "__init__.py") in tree or path.removesuffix(".py").rpartition("/")[2] in imported)
    )


def is_prose(path: str, entry: TreeFile) -> bool:
    """Whether a file is a document without `>>>` examples."""
    return path.endswith(_DOCUMENTS) and not is_protected(path) and b">>>" not in entry.data


def _beside(path: str, name: str) -> str:
    return str(PurePosixPath(path).with_name(name))


def _module_parts(path: str) -> tuple[str, ...]:
    return PurePosixPath(path.removesuffix(".py")).parts


def _look_at(found: Survey, path: str, entry: TreeFile, ours: set[str], *, product: bool) -> None:
    text = entry.data.decode()
    words = set(WORD.findall(text))
    found.taken |= words
    found.shown |= _examples(text)
    protected = is_protected(path)
    if protected:
        found.tested |= words
    source = read(entry.data) if path.endswith((".py", ".pyi")) else None
    if source is None:
        if path.endswith(_DOCUMENTS):
            found.prose |= words
            found.texts.append(text)
        else:
            found.settings |= words
        return
    found.python.setdefault(path, []).append(source)
    if product:
        found.product.setdefault(path, []).append(source)
    _look_into(found, source.tree, ours, tested=protected)


def _look_into(found: Survey, tree: ast.Module, ours: set[str], *, tested: bool) -> None:
    documents = {id(node) for node in docstrings(tree)}
    for node in ast.walk(tree):
        match node:
            case ast.keyword(arg=str(name)):
                found.keywords.add(name)
            case ast.arg(arg=name):
                found.parameters.add(name)
            case ast.Attribute(attr=name):
                found.attributes.add(name)
                found.dynamic |= name in _DYNAMIC
            case ast.Name(id=name):
                found.dynamic |= name in _DYNAMIC
            case ast.Call(func=ast.Name(id=name), args=[_, second, *_]) if name in _LOOKS_UP:
                found.composed |= not isinstance(second, ast.Constant)
            case ast.Import() | ast.ImportFrom():
                found.imported |= set(_foreign(node, ours))
            case ast.JoinedStr():
                found.interpolated |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
                found.interpolated |= {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}
            case ast.Constant(value=str(text)) if id(node) not in documents:
                found.literals.add(text)
                found.spoken |= {*WORD.findall(text), *WORD.findall(text.replace("-", "_"))}
                if tested:
                    found.texts.append(text)


def _foreign(node: ast.Import | ast.ImportFrom, ours: set[str]) -> Iterator[str]:
    """Yield the names of an import from outside the project: module parts, imported names, aliases."""
    for alias in node.names:
        module = alias.name if isinstance(node, ast.Import) else node.module or ""
        relative = isinstance(node, ast.ImportFrom) and node.level > 0
        if not relative and module.partition(".")[0] not in ours:
            yield from (*alias.name.split("."), *module.split("."), *([alias.asname] if alias.asname else []))


def _examples(text: str) -> set[str]:
    """Return the words on lines of interactive examples (`>>>`, `...`)."""
    if ">>>" not in text:
        return set()
    lines = (line.strip() for line in text.splitlines())
    return {word for line in lines if line.startswith((">>>", "...")) for word in WORD.findall(line)}
