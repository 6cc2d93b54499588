"""Tell the files that judge from the library's own, by how a run of the tests uses them.

A file judges when the listed tests use it and the library does not. The library is the code that references
change: their modules, what these import, the packages around them, and whatever else in the same package the
tests do not use. What it imports, opens or names in a string is its own, however many tests use it, too.

- Data judges when the library neither names it nor, inside the package, opens it.
- Code outside the library's packages judges when it lies beside tests, or imports nothing of the library.
- Other code that only tests import may be a module under test as well as a helper of tests. It judges when it
  proves to (`envs.register.proof.usage`): without its assertions, a failing test passes on the broken tree.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath

from envs.protection import folders_of_tests, is_protected, module_names
from envs.tasksets.trees import Tree
from sandboxes.syntax import syntax_tree

PATH_LENGTH = 500
"""Longer strings, such as documentation, are not taken for paths."""
Used = Mapping[str, Collection[str]]
"""Path of a file of the tree to the paths of the code that opened or imported it; empty for the framework."""


@dataclass(frozen=True)
class Library:
    """The parts of a tree that decide what is the library's own."""

    tree: Tree
    roots: frozenset[str]
    """Folders from which modules are imported."""
    changed: frozenset[str]
    """Paths that references change."""
    used: Used

    @property
    def _code(self) -> list[str]:
        return [path for path in self.tree if path.endswith(".py") and not is_protected(path)]

    def _inside(self, path: str) -> bool:
        """Whether a file lies in a top-level module or package that references change."""
        units = {_unit(changed, self.roots) for changed in self.changed if changed.endswith(".py")}
        return _unit(path, self.roots) in units

    def own(self) -> frozenset[str]:
        """Return the code that is the library's for certain."""
        inside = [path for path in self._code if self._inside(path)]
        return self.needed(path for path in inside if path in self.changed or path not in self.used)

    def needed(self, paths: Iterable[str]) -> frozenset[str]:
        """Return code with all that it imports from the tree, directly or not, but for tests."""
        modules = {name: path for path in self._code for name in module_names(path, self.roots)}
        found, waiting = set[str](), list(paths)
        while waiting:
            path = waiting.pop()
            if path in found:
                continue
            found.add(path)
            names = {*module_names(path, self.roots), *imported(path, self.tree[path].data, self.roots)}
            whole = {name[: len(name) - len(rest)] for name in names for rest in _ends(name)}
            waiting += [modules[name] for name in whole if name in modules]
        return frozenset(found)

    def sorted_code(self) -> tuple[frozenset[str], frozenset[str]]:
        """Return the code that judges, and the code that may be either."""
        own, beside = self.own(), folders_of_tests(self.tree)
        judging, doubtful = set[str](), set[str]()
        for path in self._code:
            if path not in self.used or path in own:
                continue
            if self._inside(path):
                doubtful.add(path)
            elif str(PurePosixPath(path).parent) in beside or not any(map(self._inside, self.needed([path]))):
                judging.add(path)
            else:
                doubtful.add(path)
        return frozenset(judging), frozenset(doubtful)

    def judges(self, proven: Collection[str]) -> tuple[str, ...]:
        """Return all files that judge, sorted; `proven` is the code that was in doubt and proved to judge."""
        judging, doubtful = self.sorted_code()
        own = self.needed({*self.own(), *(doubtful - {*proven})})
        named = frozenset().union(*(words(self.tree[path].data) for path in own))
        code = {path for path in {*judging, *proven} if path in self.used and path not in own}
        data = {path for path in self.used if self._is_judging_data(path, own, named)}
        return tuple(sorted(code | data))

    def _is_judging_data(self, path: str, own: frozenset[str], named: frozenset[str]) -> bool:
        if path not in self.tree or path.endswith(".py") or is_protected(path):
            return False
        if not named.isdisjoint(PurePosixPath(path).parts):
            return False
        return not (self._inside(path) and any(asker in own for asker in self.used[path]))


def _unit(path: str, roots: Iterable[str]) -> str:
    """Return the top-level module or package that a file belongs to, as a path."""
    pure = PurePosixPath(path)
    root = max((root for root in roots if pure.is_relative_to(root)), key=len, default=".")
    return str(PurePosixPath(root) / pure.relative_to(root).parts[0])


def _ends(name: str) -> Iterator[str]:
    """Yield what to cut off a dotted name for itself and every name above: `.b.c`, `.c` and an empty text."""
    parts = name.split(".")
    for count in range(len(parts)):
        yield "".join(f".{part}" for part in parts[count + 1 :])


@lru_cache(maxsize=20_000)
def imported(path: str, source: bytes, roots: frozenset[str]) -> frozenset[str]:
    """Return every dotted name that a file may import: `a` and `a.b` for `from a import b`."""
    is_package = PurePosixPath(path).name == "__init__.py"
    packages = [name.split(".") if is_package else name.split(".")[:-1] for name in module_names(path, roots)]
    found = set[str]()
    for node in _nodes(source):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            own = node.module.split(".") if node.module else []
            above = [package[: len(package) - node.level + 1] for package in packages] if node.level else [[]]
            for start in above:
                base = ".".join([*start, *own])
                found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return frozenset(found)


@lru_cache(maxsize=20_000)
def words(source: bytes) -> frozenset[str]:
    """Return the parts of all strings of a file's code, split at slashes: what paths are made of."""
    constants = [node.value for node in _nodes(source) if isinstance(node, ast.Constant)]
    texts = [value for value in constants if isinstance(value, str) and len(value) < PATH_LENGTH]
    return frozenset(part for text in texts for part in text.replace("\\", "/").split("/"))


def _nodes(source: bytes) -> Iterable[ast.AST]:
    try:
        return ast.walk(syntax_tree(source))
    except (SyntaxError, ValueError, RecursionError):
        return ()


class _Softening(ast.NodeTransformer):
    def visit_Assert(self, node: ast.Assert) -> ast.stmt:
        return ast.copy_location(ast.Pass(), node)

    def visit_Raise(self, node: ast.Raise) -> ast.stmt:
        raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        is_assertion = isinstance(raised, ast.Name) and raised.id == "AssertionError"
        return ast.copy_location(ast.Pass(), node) if is_assertion else node

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        called = node.value.func if isinstance(node.value, ast.Call) else None
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        return ast.copy_location(ast.Pass(), node) if name.startswith(("assert", "fail")) else node


def softened(source: bytes) -> bytes:
    """Return a module without its assertions; the same bytes where there are none."""
    try:
        tree = syntax_tree(source)
        before = ast.dump(tree)
        soft = ast.fix_missing_locations(_Softening().visit(tree))
        return source if ast.dump(soft) == before else ast.unparse(soft).encode()
    except (SyntaxError, ValueError, RecursionError):
        return source
