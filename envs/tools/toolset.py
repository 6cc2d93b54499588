"""The tools of one environment: their names, their descriptions for the policy, and the check of a call.

Validation and JSON Schema both come from a tool's dataclass, so they cannot disagree. `envs.tools.base`
explains how to write a tool.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sandboxes.names import resolve

from ..types import ToolCall
from .base import Tool, ToolError, ToolSpec
from .files import Edit, View
from .find import Search
from .prs import Prs
from .run import Shell, Submit, Test

DEFAULT_TOOLS: Mapping[str, type[Tool]] = {
    "view": View,
    "edit": Edit,
    "search": Search,
    "prs": Prs,
    "test": Test,
    "shell": Shell,
    "submit": Submit,
}


class ToolsetError(ValueError):
    """An invalid tool class, or two tools of one name. Takes one sentence."""


@dataclass(frozen=True)
class Toolset:
    """Named tools, by default all built-in ones: `Toolset()`, `Toolset.of(["view", "module:Look"])`."""

    tools: Mapping[str, type[Tool]] = field(default_factory=lambda: DEFAULT_TOOLS, hash=False)

    def __post_init__(self) -> None:
        for name, tool in self.tools.items():
            _check_definition(name, tool)

    @classmethod
    def of(cls, tools: Iterable[str | type[Tool]]) -> Toolset:
        """Choose tools, each by its built-in name, as `module:attribute` or as a class.

        A custom class is called by its name in snake case. Raises ToolsetError, UnknownNameError.
        """
        found: dict[str, type[Tool]] = {}
        for chosen in tools:
            tool = resolve(chosen, DEFAULT_TOOLS, kind="tool") if isinstance(chosen, str) else chosen
            name = chosen if isinstance(chosen, str) and chosen in DEFAULT_TOOLS else _snake_case(tool)
            if name in found:
                raise ToolsetError(f"two tools have the name {name!r}")
            found[name] = tool
        return cls(found)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.tools)

    def parse(self, call: ToolCall) -> Tool:
        """Check a call against its tool. Raises ToolError, whose sentence explains the correction."""
        if call.name not in self.tools:
            raise ToolError(f"there is no tool {call.name!r}; there are {', '.join(self.tools)}")
        try:
            return _adapter(self.tools[call.name]).validate_python(call.arguments)
        except UnicodeEncodeError:
            raise ToolError(f"{call.name}: the arguments hold half of a surrogate pair") from None
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "arguments"
            raise ToolError(f"{call.name}: {place}: {first['msg']}") from error

    def specs(self) -> list[ToolSpec]:
        """Describe every tool for the policy."""
        return [
            ToolSpec(name, " ".join(inspect.cleandoc(tool.__doc__ or "").split()), _schema(tool))
            for name, tool in self.tools.items()
        ]


def tool_specs() -> list[ToolSpec]:
    """Describe the default tools."""
    return Toolset().specs()


def _check_definition(name: str, tool: Any) -> None:
    if not (
        isinstance(tool, type) and dataclasses.is_dataclass(tool) and callable(getattr(tool, "run", None))
    ):
        raise ToolsetError(
            f"the tool {name!r} is not a dataclass with a method `run`: decorate a class with @tool"
        )
    # dataclasses write a docstring, such as "Look(path: str)", where there is none
    if not tool.__doc__ or tool.__doc__.startswith(f"{tool.__name__}("):
        raise ToolsetError(f"the tool {name!r} has no docstring, which is all that the policy reads about it")


def _snake_case(tool: Any) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", getattr(tool, "__name__", str(tool))).lower()


@lru_cache(maxsize=1024)
def _adapter(tool: type[Tool]) -> TypeAdapter[Any]:
    return TypeAdapter(tool)


def _schema(tool: type[Tool]) -> dict[str, Any]:
    schema = _adapter(tool).json_schema()
    properties = {
        key: {word: value for word, value in parameter.items() if word != "title"}
        for key, parameter in schema.get("properties", {}).items()
    }
    definitions = {"$defs": schema["$defs"]} if "$defs" in schema else {}
    return {
        "type": "object",
        "properties": properties,
        "required": schema.get("required", []),
        "additionalProperties": False,
        **definitions,
    }
