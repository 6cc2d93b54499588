"""Bugs from the history: a hunk of a past change is reverted if the code still has the hunk's new lines.

Only hunks inside one function count, and only if the revert adds or removes no function: a function that a
change added as a whole is a feature, and its absence is no bug. Hunks must match exactly, without fuzz.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from envs.tasksets.taskset import PullRequest
from envs.tasksets.trees import Tree

from ..project.syntax import functions, parse
from .bugs import REVERT, Bug
from .mutate import Mutation


@dataclass(frozen=True)
class Hunk:
    """The lines of one hunk before and after a past change, context lines included."""

    path: str
    before: bytes
    after: bytes


def find_reverts(tree: Tree, paths: Iterable[str], prs: Iterable[PullRequest]) -> list[Bug]:
    """Return a bug for every hunk of past changes to `paths` that can be reverted, with the change's key."""
    wanted = frozenset(paths)
    return [
        Bug.of(edit, keys=(pr.key,))
        for pr in prs
        for hunk in read_hunks(pr.diff)
        if hunk.path in wanted and (edit := taken_back(hunk, tree[hunk.path].data)) is not None
    ]


def read_hunks(diff: str) -> Iterator[Hunk]:
    """Yield the hunks of changed files, but not of renamed files, from a diff made by git."""
    old, new = "", ""
    before: list[bytes] = []
    after: list[bytes] = []
    left = [0, 0]
    for line in diff.split("\n"):
        if not any(left):
            if before or after:
                yield Hunk(new, b"".join(before), b"".join(after))
                before, after = [], []
            if line.startswith("--- "):
                old = line[4:].partition("\t")[0].removeprefix("a/")
            elif line.startswith("+++ "):
                new = line[4:].partition("\t")[0].removeprefix("b/")
            elif line.startswith("@@ ") and old == new:
                left = _lengths(line)
            continue
        mark, text = line[:1], line[1:].encode("utf-8", "surrogateescape") + b"\n"
        if mark == "\\":  # `\ No newline at end of file`
            continue
        if mark in ("-", " ", ""):
            before.append(text)
            left[0] -= 1
        if mark in ("+", " ", ""):
            after.append(text)
            left[1] -= 1
    if (before or after) and not any(left):
        yield Hunk(new, b"".join(before), b"".join(after))


def taken_back(hunk: Hunk, data: bytes) -> Mutation | None:
    """Return the edit that replaces a hunk's new lines by the hunk's old lines, or None.

    None if the new lines do not occur exactly once in the file, or if the edit would reach beyond one
    function, add or remove a function, or change no code.
    """
    if not hunk.after or data.count(hunk.after) != 1:
        return None
    offset = data.index(hunk.after)
    if offset and data[offset - 1 : offset] != b"\n":
        return None
    before, after = hunk.before.splitlines(keepends=True), hunk.after.splitlines(keepends=True)
    head = _common(before, after)
    tail = _common(before[head:][::-1], after[head:][::-1])
    start = offset + sum(map(len, after[:head]))
    end = offset + len(hunk.after) - sum(map(len, after[len(after) - tail :]))
    old = b"".join(before[head : len(before) - tail])
    line = data[:start].count(b"\n") + 1
    function = _changed_function(data, data[:start] + old + data[end:])
    if function is None:
        return None
    return Mutation(REVERT, hunk.path, line, function, start, end, data[start:end].decode(), old.decode())


def _lengths(header: str) -> list[int]:
    """Return the number of lines of a hunk before and after: `@@ -12,7 +12,9 @@` gives 7 and 9."""
    ranges = header.split(" ")[1:3]
    return [int(text.partition(",")[2] or 1) for text in ranges]


def _common(left: list[bytes], right: list[bytes]) -> int:
    """Return the number of leading lines that two texts share."""
    pairs = zip(left, right, strict=False)
    return next((number for number, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))


def _changed_function(now: bytes, then: bytes) -> str | None:
    """Return the innermost function that holds the whole difference of two programs, or None."""
    code, older = _code(now), _code(then)
    if code is None or older is None or code.names != older.names or code.outline != older.outline:
        return None
    changed = [name for name, a, b in zip(code.names, code.functions, older.functions, strict=True) if a != b]
    nested = all(b.startswith(a + ".") for a, b in pairwise(changed))
    return changed[-1] if changed and nested else None


@dataclass(frozen=True)
class _Code:
    """A program without its docstrings, as text that can be compared."""

    names: tuple[str, ...]
    functions: tuple[str, ...]
    """Code of every function, in the order of `names`."""
    outline: str
    """Code outside of functions, and the places of functions."""


@lru_cache(maxsize=64)
def _code(data: bytes) -> _Code | None:
    tree = parse(data)
    if tree is None:
        return None
    _forget_docstrings(tree)
    found = list(functions(tree))
    dumped = tuple(ast.dump(function) for function, _ in found)
    return _Code(tuple(name for _, name in found), dumped, _outline(tree))


def _forget_docstrings(tree: ast.Module) -> None:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            node.body = [
                statement
                for statement in node.body
                if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
            ]


def _outline(tree: ast.Module) -> str:
    """Return a program as text in which every function is only a name. Modifies `tree`."""
    for function in [function_node for function_node, _ in functions(tree)]:
        function.body, function.decorator_list = [], []
        function.args = ast.arguments([], [], None, [], [], None, [])
        function.returns = None
    return ast.dump(tree)
