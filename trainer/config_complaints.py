"""Error messages for settings: the key, the allowed values, and a suggestion for a misspelt key."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel


class ConfigError(Exception):
    """The configuration cannot be used. One line per problem, each naming its key."""


def sentence(problem: dict[str, Any], data: Mapping[str, Any], root: type[BaseModel]) -> str:
    """One of pydantic's findings about settings under `root`, as a line: the key, and what is allowed."""
    location = [str(part) for part in problem["loc"]]
    key = ".".join(location)
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        return f"{key}: no such setting{_hint(location, root)}"
    if problem["type"] == "missing":
        return f"{key}: must be given"
    if problem["type"] == "value_error":
        return f"{key}: {message}" if key else message
    value: Any = data
    for part in location:
        value = value.get(part) if isinstance(value, Mapping) else value[int(part)]
    message = message.removeprefix("Input ").replace("should", "must").replace("an object", "a section")
    return f"{key} = {json.dumps(value, default=str)}: {message}"


def _hint(location: list[str], root: type[BaseModel]) -> str:
    """Suggest the most similar key of the whole tree, or list the section's keys."""
    table: type[BaseModel] | None = root
    for part in location[:-1]:
        table = _section(table, part)
    if table is None:
        return ""
    elsewhere = [
        f"{name}.{location[-1]}"
        for name in root.model_fields
        if (section := _section(root, name)) is not None and location[-1] in section.model_fields
    ]
    if elsewhere:
        return f'; did you mean "{elsewhere[0]}"?'
    close = difflib.get_close_matches(location[-1], table.model_fields, n=1)
    if close:
        return f'; did you mean "{".".join([*location[:-1], close[0]])}"?'
    return "; allowed are " + ", ".join(sorted(table.model_fields))


def _section(table: type[BaseModel] | None, name: str) -> type[BaseModel] | None:
    field = table.model_fields.get(name) if table else None
    kinds = [field.annotation] if field else []
    if kinds and get_origin(kinds[0]) in (Union, UnionType):
        kinds = list(get_args(kinds[0]))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
