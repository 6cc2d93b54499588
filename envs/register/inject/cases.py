"""Remove cases of a parametrised test from a test file, by deleting elements of the list that holds them.

The list is a literal: in the decorator, or in a variable of the module. Cases are known by pytest's ids, so
only lists are thinned whose elements are plain numbers, texts, truth values or None, with ids of their own.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from itertools import accumulate

from ..project.syntax import parse

Plain = (str, int, float, bool, type(None))


def cases_of(data: bytes, names: Sequence[str]) -> Mapping[str, ast.expr]:
    """Return the cases of a test, by the id between brackets; `names` are its classes and its own name.

    Empty where the test has no list of plain cases, or more than one list.
    """
    module = parse(data)
    function = _found(module.body, names) if module else None
    if module is None or function is None or len(function.decorator_list) != 1:
        return {}
    match function.decorator_list[0]:
        case ast.Call(func=ast.Attribute(attr="parametrize"), args=[names_of, values], keywords=[]):
            elements = _elements(values, module)
        case _:
            return {}
    width = _width(names_of)
    ids = [_id(element, width) for element in elements]
    unique = None not in ids and len(set(ids)) == len(ids)
    return {name: element for name, element in zip(ids, elements, strict=True) if name} if unique else {}


def without_cases(data: bytes, gone: Sequence[ast.expr]) -> tuple[bytes, tuple[int, ...]]:
    """Return a file without elements of one list that it holds, and the numbers of the lines that vanish.

    The file comes back as it was where the rest could not be read as the same list.
    """
    module = parse(data)
    holder = next((node for node in _lists(module) if _holds(node, gone)), None) if module else None
    if holder is None:
        return data, ()
    starts = [0, *accumulate(map(len, data.splitlines(keepends=True)))]
    places = {(node.lineno, node.col_offset) for node in gone}
    keeps = [(node.lineno, node.col_offset) not in places for node in holder.elts]
    first = [starts[node.lineno - 1] + node.col_offset for node in holder.elts]
    after = [starts[(node.end_lineno or 1) - 1] + (node.end_col_offset or 0) for node in holder.elts]
    edited, lines, done = b"", list[int](), 0
    for number in [number for number, kept in enumerate(keeps) if not kept]:
        follows = any(keeps[number:])  # else the comma before goes, and whatever of the list is left behind
        start = first[number] if follows else after[number - 1] if number else first[0]
        end = first[number + 1] if follows else after[number]
        edited, done = edited + data[done:start], end
        line = 1 + data.count(b"\n", 0, start)
        lines += range(line + 1, line + 1 + data.count(b"\n", start, end))
    edited += data[done:]
    kept = [ast.dump(node) for node, stays in zip(holder.elts, keeps, strict=True) if stays]
    again = parse(edited)
    same = again is not None and any([ast.dump(one) for one in node.elts] == kept for node in _lists(again))
    return (edited, tuple(lines)) if same and kept else (data, ())


def _lists(module: ast.Module) -> list[ast.List | ast.Tuple]:
    return [node for node in ast.walk(module) if isinstance(node, ast.List | ast.Tuple)]


def _holds(holder: ast.List | ast.Tuple, elements: Sequence[ast.expr]) -> bool:
    held = {(node.lineno, node.col_offset, node.end_col_offset) for node in holder.elts}
    return bool(held) and all((one.lineno, one.col_offset, one.end_col_offset) in held for one in elements)


def _found(body: Sequence[ast.stmt], names: Sequence[str]) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """Return the only definition of a test function."""
    for name in names[:-1]:
        classes = [node for node in body if isinstance(node, ast.ClassDef) and node.name == name]
        if len(classes) != 1 or classes[0].decorator_list:
            return None
        body = classes[0].body
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = [node for node in body if isinstance(node, kinds) and node.name == names[-1]]
    return found[0] if len(found) == 1 else None


def _elements(values: ast.expr, module: ast.Module) -> list[ast.expr]:
    """Return the elements of a list, or of a list that a variable of the module holds once and for all."""
    if isinstance(values, ast.Name):
        stored = [
            node for node in ast.walk(module) if isinstance(node, ast.Name) and node.id == values.id
            if not isinstance(node.ctx, ast.Load)
        ]  # fmt: skip
        set_once = [
            node.value
            for node in module.body
            if isinstance(node, ast.Assign) and len(stored) == 1 and node.targets == stored
        ]
        values = set_once[0] if set_once else values
    return values.elts if isinstance(values, ast.List | ast.Tuple) else []


def _width(names: ast.expr) -> int:
    """Return the number of parameters that a list gives; 0 where the names are no literal."""
    if isinstance(names, ast.Constant) and isinstance(names.value, str):
        return len([name for name in names.value.split(",") if name.strip()])
    return len(names.elts) if isinstance(names, ast.List | ast.Tuple) else 0


def _id(element: ast.expr, width: int) -> str | None:
    """Return pytest's id of a case; None where it is made in another way than from plain values."""
    values = [element] if width == 1 else element.elts if isinstance(element, ast.List | ast.Tuple) else []
    if len(values) != width:
        return None
    texts = []
    for value in values:
        negative = isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.USub)
        constant = value.operand if isinstance(value, ast.UnaryOp) and negative else value
        if not isinstance(constant, ast.Constant) or not isinstance(constant.value, Plain):
            return None
        text = str(constant.value)
        if isinstance(constant.value, str):
            text = text.encode("unicode_escape").decode("ascii")
        texts.append(f"-{text}" if negative else text)
    return "-".join(texts) or None
