"""Parse a project's Python files and list their functions."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator

from sandboxes.syntax import syntax_tree

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def parse(data: bytes) -> ast.Module | None:
    """Return the syntax tree of Python source, or None when it is not valid UTF-8 or not valid Python."""
    try:
        data.decode("utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = syntax_tree(data)
            # The compiler rejects what the parser accepts, such as `return` outside a function.
            compile(data, "<source>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError):
        return None
    return tree


def functions(
    node: ast.AST, prefix: str = ""
) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, str]]:
    """Yield every function under a node with its qualified name (`Parser.parse`), outer before inner.

    Functions under `if TYPE_CHECKING:` are omitted, since they never run.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (*_FUNCTIONS, ast.ClassDef)):
            name = f"{prefix}{child.name}"
            if isinstance(child, _FUNCTIONS):
                yield child, name
            yield from functions(child, f"{name}.")
        elif not _is_type_checking(child):
            yield from functions(child, prefix)


def _is_type_checking(node: ast.AST) -> bool:
    if not isinstance(node, ast.If):
        return False
    test = node.test
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )
