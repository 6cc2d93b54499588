"""Read the arguments of `setup(...)` from the syntax tree of a `setup.py`.

Literals, names bound to literals, sums of lists, and `**` of a dictionary are evaluated; the rest is UNKNOWN.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

from .declared import Declared
from .syntax import parse


class _Unknown:
    """The type of UNKNOWN: a value that depends on running the script."""


UNKNOWN = _Unknown()
_FILE = re.compile(r"[\w./-]+\.(?:txt|in)")
_CONDITIONS = re.compile(r"version|PY2|PY3|platform|os\.name|sys\.argv|environ")


def from_setup_script(data: bytes) -> Declared:
    """Read the literal arguments of `setup(...)`.

    A script that does not parse as Python 3, or has no such call, gives `Declared(computed=True)`.
    """
    module = parse(data)
    call = _setup_call(module) if module else None
    if module is None or call is None:
        return Declared(computed=True)
    names = _bindings(module)
    arguments: dict[str, Any] = {}
    for keyword in call.keywords:
        value = evaluated(keyword.value, names)
        if keyword.arg is not None:
            arguments[keyword.arg] = value
        elif isinstance(value, dict):
            arguments.update(value)
    # pbr reads the requirements from requirements.txt, whatever the script passes.
    if arguments.get("pbr") is True or arguments.get("setup_requires") == ["pbr"]:
        arguments["install_requires"] = UNKNOWN
    extras, conditional = _extras(arguments.get("extras_require"))
    folders = arguments.get("package_dir")
    root = folders.get("", "") if isinstance(folders, Mapping) else ""
    return Declared(
        name=_text(arguments.get("name")),
        python=_text(arguments.get("python_requires")),
        classifiers=_lines(arguments.get("classifiers")),
        root=root if isinstance(root, str) else "",
        runtime=(*_lines(arguments.get("install_requires")), *conditional),
        tests=_lines(arguments.get("tests_require")),
        extras=extras,
        computed=_is_unknown(arguments.get("install_requires")),
        named=_files_named(module),
    )


def _files_named(module: ast.Module) -> tuple[str, ...]:
    """Return string literals that look like a text file's path (`requirements/test.txt`), in order."""
    texts = [node.value for node in ast.walk(module) if isinstance(node, ast.Constant)]
    return tuple(dict.fromkeys(text for text in texts if isinstance(text, str) and _FILE.fullmatch(text)))


def _extras(value: Any) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Return the extras by name, and the requirements of nameless extras, which are runtime requirements.

    Example: `{":python_version<'3'": ["enum34"]}` gives `({}, ("enum34; python_version<'3'",))`.
    """
    extras: dict[str, tuple[str, ...]] = {}
    conditional: list[str] = []
    for key, lines in value.items() if isinstance(value, Mapping) else ():
        if isinstance(key, str):
            name, _, marker = key.partition(":")
            found = [f"{line}; {marker}" if marker and ";" not in line else line for line in _lines(lines)]
            if name:
                extras[name.lower()] = (*extras.get(name.lower(), ()), *found)
            else:
                conditional += found
    return extras, tuple(conditional)


def _setup_call(module: ast.Module) -> ast.Call | None:
    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            if name == "setup" and (node.keywords or node.args):
                return node
    return None


def _bindings(module: ast.Module) -> dict[str, Any]:
    """Return the values of all assigned names after the last statement; a value may be UNKNOWN."""
    names: dict[str, Any] = {}
    for node in _statements(module):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                names[name] = evaluated(value, names)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                names[name] = evaluated(value, names)
            case ast.AugAssign(target=ast.Name(id=name), op=ast.Add(), value=value):
                names[name] = _sum(names.get(name, UNKNOWN), evaluated(value, names))
            case ast.Assign(targets=[ast.Subscript(value=ast.Name(id=name), slice=place)], value=value):
                table, key = names.get(name), evaluated(place, names)
                if isinstance(table, dict) and isinstance(key, str):
                    table[key] = evaluated(value, names)
            case ast.Expr(
                value=ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=how), args=[value])
            ):
                found = evaluated(value, names)
                if how in ("append", "extend") and isinstance(names.get(name), list):
                    names[name] = _sum(names[name], [found] if how == "append" else found)
    return names


def _statements(node: ast.AST) -> Iterator[ast.stmt]:
    """Yield every statement in order, without branches on the Python version or the platform."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and _CONDITIONS.search(ast.unparse(child.test)):
            continue
        if isinstance(child, ast.stmt):
            yield child
        yield from _statements(child)


def evaluated(node: ast.expr, names: Mapping[str, Any]) -> Any:
    """Return the value of an expression, or UNKNOWN; lists and dictionaries may contain UNKNOWN."""
    found: Any = UNKNOWN
    match node:
        case ast.Constant():
            found = node.value
        case ast.Name():
            found = names.get(node.id, UNKNOWN)
        case ast.List() | ast.Tuple() | ast.Set():
            found = [element for part in node.elts for element in _element(part, names)]
        case ast.Dict():
            found = _table(node, names)
        case ast.BinOp(op=ast.Add()):
            found = _sum(evaluated(node.left, names), evaluated(node.right, names))
        case ast.Subscript():
            table, key = evaluated(node.value, names), evaluated(node.slice, names)
            found = table.get(key, UNKNOWN) if isinstance(table, dict) and isinstance(key, str) else UNKNOWN
        case ast.Call(func=ast.Name(id="dict")):
            found = {keyword.arg: evaluated(keyword.value, names) for keyword in node.keywords if keyword.arg}
        case ast.Call(func=ast.Attribute(attr="split" | "splitlines" | "strip", value=inner), args=[]):
            text = evaluated(inner, names)
            found = text if isinstance(text, str) else UNKNOWN
    return found


def _table(node: ast.Dict, names: Mapping[str, Any]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in zip(node.keys, node.values, strict=True):
        found = evaluated(value, names)
        if key is None:
            table.update(found if isinstance(found, dict) else {})
        elif isinstance(name := evaluated(key, names), str):
            table[name] = found
    return table


def _sum(left: Any, right: Any) -> Any:
    if isinstance(left, list) or isinstance(right, list):
        return [
            element for side in (left, right) for element in (side if isinstance(side, list) else [UNKNOWN])
        ]
    return left + right if isinstance(left, str) and isinstance(right, str) else UNKNOWN


def _element(node: ast.expr, names: Mapping[str, Any]) -> list[Any]:
    if isinstance(node, ast.Starred):
        inner = evaluated(node.value, names)
        return inner if isinstance(inner, list) else [UNKNOWN]
    return [evaluated(node, names)]


def _is_unknown(value: Any) -> bool:
    return value is UNKNOWN or (isinstance(value, list) and UNKNOWN in value)


def _lines(value: Any) -> tuple[str, ...]:
    """Return requirements in either form that setuptools accepts: a list of lines, or one string."""
    if isinstance(value, str):
        value = value.splitlines()
    found = value if isinstance(value, list) else []
    return tuple(text.strip() for text in found if isinstance(text, str) and text.strip())


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
