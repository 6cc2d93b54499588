"""Remove failing tests from the tree that a policy sees, by deleting their source.

Half of the failing test functions leave; where that is none, half of the cases of a parametrised one, or else
the only function. The rest stays visible as a report of the bug; the hidden half decides whether a fix is
real. The grader's files keep all tests.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from envs.tasksets.trees import Tree, TreeFile

from ..project.syntax import parse
from .bugs import Bug
from .cases import cases_of, without_cases


@dataclass(frozen=True)
class Hidden:
    """A tree without some test functions."""

    tree: Tree
    tests: tuple[str, ...]
    """Ids of the failing tests that were removed, functions or cases."""
    removed_lines: Mapping[str, tuple[int, ...]]
    """Path to the removed lines, as line numbers (from 1) of the full file."""

    def line(self, path: str, number: int) -> int:
        """Convert a line number of the full file to that of the shortened file."""
        return number - sum(gone < number for gone in self.removed_lines.get(path, ()))


def function_of(test_id: str) -> str:
    """Return a test id without its parameters: `a.py::test_b` for `a.py::test_b[1]`."""
    head, bracket, _ = test_id.partition("[")
    return head if bracket else test_id


def hidden_with(tree: Tree, bug: Bug, failing: Sequence[str]) -> Hidden:
    """Put a bug into a tree and remove half of the tests that fail with the bug."""
    seed = ";".join(f"{edit.path}:{edit.start}:{edit.after}" for edit in bug.edits)
    return hide_half({**tree, **bug.files(tree)}, failing, seed=seed)


def hide_half(tree: Tree, failing: Sequence[str], *, seed: str) -> Hidden:
    """Remove half of the failing test functions (rounded down) from the tree, or else half of the failing
    cases (rounded up) of one function, or else the only failing function; the seed makes the choice.

    A function stays if code in the same file refers to the function or to its class. No test is hidden where
    none of this can be done.
    """
    hidden = _without_functions(tree, failing, seed, len({*map(function_of, failing)}) // 2)
    if not hidden.tests:
        hidden = _without_cases(tree, failing, seed)
    return hidden if hidden.tests else _without_functions(tree, failing, seed, 1)


def _without_cases(tree: Tree, failing: Sequence[str], seed: str) -> Hidden:
    for name in sorted({function_of(test) for test in failing}):
        path, *names = name.split("::")
        cases = cases_of(tree[path].data, names) if path in tree and names else {}
        mine = {test: test.removeprefix(f"{name}[")[:-1] for test in failing if function_of(test) == name}
        known = sorted(test for test, case in mine.items() if case in cases)
        random.Random(seed).shuffle(known)
        chosen = known[: -(-len(mine) // 2)]
        if len(chosen) < -(-len(mine) // 2) or len(chosen) == len(failing):
            continue
        edited, gone = without_cases(tree[path].data, [cases[mine[test]] for test in chosen])
        if edited != tree[path].data:
            changed = {path: TreeFile(edited, tree[path].executable)}
            return Hidden({**tree, **changed}, tuple(sorted(chosen)), {path: gone})
    return Hidden(dict(tree), (), {})


def _without_functions(tree: Tree, failing: Sequence[str], seed: str, most: int) -> Hidden:
    named = sorted({function_of(test) for test in failing})
    chosen = [name for name in named if _span(tree, name) is not None]
    random.Random(seed).shuffle(chosen)
    chosen = chosen[:most]
    result, removed = dict(tree), dict[str, tuple[int, ...]]()
    for path in sorted({name.split("::")[0] for name in chosen}):
        spans = [span for name in chosen if name.startswith(path + "::") and (span := _span(tree, name))]
        edited, gone = _without(tree[path].data, spans)
        if parse(edited) is None:
            chosen = [name for name in chosen if not name.startswith(path + "::")]
            continue
        result[path] = TreeFile(edited, tree[path].executable)
        removed[path] = gone
    away = frozenset(chosen)
    tests = tuple(sorted(test for test in failing if function_of(test) in away))
    return Hidden(result, tests, removed)


def _span(tree: Tree, name: str) -> tuple[int, int] | None:
    """Return first and last line (from 1) of a decorated test function; None if the function must stay."""
    path, *names = name.split("::")
    if path not in tree or not names:
        return None
    module, referred = _read(tree[path].data)
    if module is None or not referred.isdisjoint(names):
        return None
    holder: ast.Module | ast.ClassDef = module
    for class_name in names[:-1]:
        found = [
            statement
            for statement in holder.body
            if isinstance(statement, ast.ClassDef) and statement.name == class_name
        ]
        if len(found) != 1:
            return None
        holder = found[0]
    functions = [
        statement
        for statement in holder.body
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)) and statement.name == names[-1]
    ]
    if len(functions) != 1 or len(holder.body) < 2:
        return None
    function = functions[0]
    first = min([function.lineno, *[decorator.lineno for decorator in function.decorator_list]])
    assert function.end_lineno is not None, "parsed nodes have an end"
    return first, function.end_lineno


@lru_cache(maxsize=64)
def _read(data: bytes) -> tuple[ast.Module | None, frozenset[str]]:
    """Return the syntax tree of a test file, and every name that the code refers to."""
    module = parse(data)
    nodes = list(ast.walk(module)) if module else []
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    return module, frozenset(names | {node.attr for node in nodes if isinstance(node, ast.Attribute)})


def _without(data: bytes, spans: Iterable[tuple[int, int]]) -> tuple[bytes, tuple[int, ...]]:
    lines = data.splitlines(keepends=True)
    gone = {number for first, last in spans for number in range(first, last + 1)}
    kept = [line for number, line in enumerate(lines, start=1) if number not in gone]
    return b"".join(kept), tuple(sorted(gone))
