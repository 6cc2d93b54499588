"""Imports at the top of a test file. Sentinel files repeat them, to look like the project's tests."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from envs.protection import is_protected
from envs.tasksets.trees import Tree
from sandboxes.syntax import syntax_tree


@dataclass(frozen=True)
class Imports:
    """Import statements that a new file in the same folder can repeat."""

    lines: tuple[str, ...] = ()
    of_project: tuple[str, ...] = ()
    """Names that they bind to something of the project."""


def leading_imports(path: str, tree: Tree) -> Imports:
    """Read the imports at the top of a test file, without those that would bring tests along.

    Later imports are left out: they may depend on statements before them. Empty for invalid Python.
    """
    try:
        body = syntax_tree(tree[path].data).body if path in tree else []
    except (SyntaxError, ValueError, RecursionError):
        return Imports()
    lines: list[str] = []
    names: list[str] = []
    for node in body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            if not _brings_tests(node):
                lines.append(ast.unparse(node))
                names += _of_project(node, tree)
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            break
    return Imports(tuple(lines), tuple(names))


def _brings_tests(node: ast.Import | ast.ImportFrom) -> bool:
    """Whether a test framework could collect tests, or base classes of tests, from the bound names."""
    modules = (
        [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
    )
    if isinstance(node, ast.ImportFrom) and (node.level or any(alias.name == "*" for alias in node.names)):
        return True
    if any(part.startswith(("test", "conftest")) for module in modules for part in module.split(".")):
        return True
    bound = [(alias.asname or alias.name).lower() for alias in node.names]
    return any(name.startswith("test") or name.endswith(("test", "tests", "testcase")) for name in bound)


def _of_project(node: ast.Import | ast.ImportFrom, tree: Tree) -> list[str]:
    def is_ours(module: str) -> bool:
        root = module.partition(".")[0]
        ends = (f"{root}.py", f"{root}/__init__.py")
        return any(f"/{path}".endswith(f"/{end}") and not is_protected(path) for path in tree for end in ends)

    if isinstance(node, ast.ImportFrom):
        return [alias.asname or alias.name for alias in node.names] if is_ours(node.module or "") else []
    return [alias.asname or alias.name.partition(".")[0] for alias in node.names if is_ours(alias.name)]
