"""The tools a policy may call: what each is told as, what its arguments must be, and what it does.

A tool is a frozen dataclass of arguments with a docstring (which the policy reads) and a `run` method.
Validation and JSON Schema both come from the dataclass, so they cannot disagree. A tool that is used
wrongly raises `ToolError`, whose sentence becomes an observation; only a broken sandbox raises further.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ..types import ToolCall
from .base import Tool, ToolContext, ToolError, ToolSpec, _arguments
from .files import Edit, View
from .find import Search
from .prs import Prs
from .run import Shell, Test


@_arguments
class Submit:
    """Hand in the repository as it is now. The hidden tests decide; nothing can be done afterwards."""

    def run(self, at: ToolContext) -> str:  # noqa: ARG002
        return "submitted"


TOOLS: Mapping[str, type[Any]] = {
    "view": View,
    "edit": Edit,
    "search": Search,
    "prs": Prs,
    "test": Test,
    "shell": Shell,
    "submit": Submit,
}

_ADAPTERS: dict[str, TypeAdapter[Any]] = {name: TypeAdapter(tool) for name, tool in TOOLS.items()}


def parse_call(call: ToolCall) -> Tool:
    """Check a call against its tool. Raises ToolError with a sentence that says how to mend it."""
    if call.name not in TOOLS:
        raise ToolError(f"there is no tool {call.name!r}; there are {', '.join(TOOLS)}")
    try:
        return _ADAPTERS[call.name].validate_python(call.arguments)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "arguments"
        raise ToolError(f"{call.name}: {place}: {first['msg']}") from error


def tool_specs() -> list[ToolSpec]:
    """Return every tool as a policy is told of it."""
    return [
        ToolSpec(name, " ".join(inspect.cleandoc(tool.__doc__ or "").split()), _schema(name))
        for name, tool in TOOLS.items()
    ]


def _schema(name: str) -> dict[str, Any]:
    schema = _ADAPTERS[name].json_schema()
    properties = {
        key: {word: value for word, value in field.items() if word != "title"}
        for key, field in schema.get("properties", {}).items()
    }
    return {
        "type": "object",
        "properties": properties,
        "required": schema.get("required", []),
        "additionalProperties": False,
    }
