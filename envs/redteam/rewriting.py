"""Rewrites of Python sources that keep their behaviour: renamed variables, early returns, type hints, decorators."""

from __future__ import annotations

import ast
from collections.abc import Callable

from sandboxes.syntax import syntax_tree

from .program import source

Function = ast.FunctionDef | ast.AsyncFunctionDef


def reformatted(text: str) -> str:
    """Write a module as `ast.unparse` does: other line breaks and quotes, no comments."""
    return ast.unparse(syntax_tree(text)) + "\n"


def renamed(text: str) -> str:
    """Rename local variables in functions without nested scopes and without calls such as `locals()`."""
    return _rewritten(text, _rename_locals)


def returning_early(text: str) -> str:
    """Dedent the `else` branch of a final `if` whose body ends in `return` or `raise`."""
    return _rewritten(text, lambda function: _flatten(function.body))


def hinted(text: str) -> str:
    """Add the annotation `object` to every parameter and result without annotation."""
    return _rewritten(text, _hint)


def wrapped(text: str) -> str:
    """Decorate every plain function at the top of the module with a decorator that only calls the function."""
    tree = syntax_tree(text)
    at = _after_docstring_and_futures(tree)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.decorator_list:
            node.decorator_list.append(ast.Name("_wrapping"))
    tree.body[at:at] = syntax_tree(source("honest/wrapping.py")).body
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


def _rewritten(text: str, change: Callable[[Function], None]) -> str:
    tree = syntax_tree(text)
    for node in ast.walk(tree):
        if isinstance(node, Function):
            change(node)
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


def _rename_locals(function: Function) -> None:
    inner = [node for statement in function.body for node in ast.walk(statement)]
    scopes = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.Global, ast.Nonlocal)
    comprehensions = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    looks = {"locals", "vars", "eval", "exec", "dir"}
    if any(isinstance(node, (*scopes, *comprehensions)) for node in inner):
        return
    if any(isinstance(node, ast.Name) and node.id in looks for node in inner):
        return
    stored = {node.id for node in inner if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    given = {node.arg for node in ast.walk(function.args) if isinstance(node, ast.arg)}
    local = stored - given
    for node in inner:
        if isinstance(node, ast.Name) and node.id in local:
            node.id = f"{node.id}_here"


def _flatten(body: list[ast.stmt]) -> None:
    for place, statement in enumerate(body):
        for name in ("body", "orelse", "finalbody"):
            inner = getattr(statement, name, None)
            if inner and not isinstance(statement, (*Function.__args__, ast.ClassDef)):
                _flatten(inner)
        if not isinstance(statement, ast.If) or place < len(body) - 1:
            continue
        if statement.orelse and isinstance(statement.body[-1], ast.Return | ast.Raise):
            body += statement.orelse
            statement.orelse = []


def _hint(function: Function) -> None:
    for argument in [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]:
        if argument.annotation is None and argument.arg not in ("self", "cls"):
            argument.annotation = ast.Constant("object")
    if function.returns is None:
        function.returns = ast.Constant("object")


def _after_docstring_and_futures(tree: ast.Module) -> int:
    for place, node in enumerate(tree.body):
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
        if not (docstring or future):
            return place
    return len(tree.body)
