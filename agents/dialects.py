"""Tool-call dialects: pure functions between completion text and calls.

A dialect parses text into calls or into a `FormatProblem`, whose text is the correction that the model reads.
Text without any call is a problem too: a malformed call never counts as "no tool call".

There are two dialects, named after the model families trained on them:

- `hermes` (Qwen2.5, Qwen3): one JSON object with `name` and `arguments` between `<tool_call>` tags;
- `qwen3-coder`: tags for the function and each parameter; values are raw text, typed by the tool's schema.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from envs.tools.base import ToolSpec
from envs.types import ToolCall

OPEN, CLOSE = "<tool_call>", "</tool_call>"
MAX_DEPTH = 32


@dataclass(frozen=True)
class FormatProblem:
    """Correction for the policy: why a completion holds no usable call, and an example of a call."""

    text: str


class _Malformed(ValueError):
    """A call that cannot be parsed; caught in this module only."""


class _Repeated(ValueError):
    """A JSON object with two values of one key. Takes the key."""


@dataclass(frozen=True)
class Dialect:
    """A way of writing calls. `parse` and `render` are inverse on what the format can express."""

    name: str
    example: str
    """One well-formed call, quoted in corrections."""
    _read: Callable[[str, Sequence[ToolSpec]], tuple[str, dict[str, Any]]]
    _write: Callable[[ToolCall], str]

    def parse(self, text: str, tools: Sequence[ToolSpec] = ()) -> list[ToolCall] | FormatProblem:
        """Read every call in a completion; ids are `call_1`, `call_2` and so on. Never raises."""
        try:
            bodies = _bodies(text)
            read = [self._read(body, tools) for body in bodies]
        except _Malformed as problem:
            return self.problem(str(problem))
        if not read:
            return self.problem("Your answer has no tool call; every answer needs one")
        return [ToolCall(f"call_{i}", name, arguments) for i, (name, arguments) in enumerate(read, 1)]

    def render(self, calls: Sequence[ToolCall]) -> str:
        """Write calls as the model would. Raises ValueError for values that the format cannot express."""
        return "\n".join(f"{OPEN}\n{self._write(call)}\n{CLOSE}" for call in calls)

    def problem(self, reason: str) -> FormatProblem:
        """Make a correction: the problem, then a well-formed call."""
        return FormatProblem(f"{reason}. A tool call looks like this:\n{self.example}")


def dialect(name: str) -> Dialect:
    """Find a dialect by name. Raises ValueError naming the known ones."""
    if name not in DIALECTS:
        raise ValueError(f"unknown tool call dialect {name!r}; known are {', '.join(sorted(DIALECTS))}")
    return DIALECTS[name]


def parse_arguments(text: str) -> dict[str, Any]:
    """Read a JSON object of arguments. Raises ValueError with one sentence for the model."""
    try:
        value = json.loads(text, object_pairs_hook=_without_repetition)
    except _Repeated as error:
        raise ValueError(f"The arguments give {error} twice") from None
    except (ValueError, RecursionError) as error:
        what = (
            str(error) if isinstance(error, json.JSONDecodeError) else "it nests too deeply or is too large"
        )
        raise ValueError(f"The arguments are not valid JSON: {what}") from None
    if not isinstance(value, dict):
        raise ValueError("The arguments must be a JSON object")
    _require_usable(value)
    return value


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object; of two values of one key, one would be lost in silence. Raises _Repeated."""
    made = dict(pairs)
    if len(made) < len(pairs):
        raise _Repeated(next(key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number])))
    return made


def _bodies(text: str) -> list[str]:
    """Cut out the text between each pair of tags; tags must alternate."""
    bodies: list[str] = []
    rest = text
    while True:
        before, opened, rest = rest.partition(OPEN)
        if CLOSE in before:
            raise _Malformed(f"There is a {CLOSE} without a {OPEN} before it")
        if not opened:
            return bodies
        body, closed, rest = rest.partition(CLOSE)
        if not closed:
            raise _Malformed(f"The last {OPEN} is never closed with {CLOSE}")
        if OPEN in body:
            raise _Malformed(f"A {OPEN} is opened inside another one")
        bodies.append(body)


def _require_usable(value: Any, depth: int = 0) -> None:
    """Refuse JSON that later stages cannot store: lone surrogates, infinities, deep nesting."""
    if depth > MAX_DEPTH:
        raise ValueError("The arguments nest too deeply")
    if isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value):
        raise ValueError("The arguments contain an invalid Unicode escape (half of a surrogate pair)")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("The arguments contain a number that is not finite")
    if isinstance(value, dict):
        for key, item in value.items():
            _require_usable(key, depth + 1)
            _require_usable(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _require_usable(item, depth + 1)


# hermes ------------------------------------------------------------------------------------------------


def _read_hermes(body: str, _tools: Sequence[ToolSpec]) -> tuple[str, dict[str, Any]]:
    try:
        call = parse_arguments(body)
    except ValueError as error:
        raise _Malformed(str(error).replace("The arguments", "The text of the tool call", 1)) from None
    name = call.get("name")
    given = [key for key in ("arguments", "parameters") if key in call]  # some models write the latter
    strange = sorted(call.keys() - {"name", "id", "type", "arguments", "parameters"})
    if strange or len(given) > 1:
        raise _Malformed(f'The tool call has "{(strange or given)[-1]}" beside its "name" and "arguments"')
    arguments = call[given[0]] if given else {}
    if not isinstance(name, str) or not name:
        raise _Malformed('The tool call has no "name"')
    if isinstance(arguments, str):  # some models write the arguments as JSON inside JSON
        try:
            arguments = parse_arguments(arguments)
        except ValueError as error:
            raise _Malformed(str(error)) from None
    if not isinstance(arguments, dict):
        raise _Malformed('"arguments" must be a JSON object')
    return name, arguments


def _write_hermes(call: ToolCall) -> str:
    text = json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False)
    # A tag inside an argument would end the call; JSON may write its first character as an escape.
    return text.replace(OPEN, "\\u003c" + OPEN[1:]).replace(CLOSE, "\\u003c" + CLOSE[1:])


# qwen3-coder -------------------------------------------------------------------------------------------

_FUNCTION = re.compile(r"\s*<function=([^>\n]+)>(.*)</function>\s*", re.DOTALL)
# A value ends at the </parameter> that is followed by the next parameter or by nothing, so that text about
# parameters can be a value.
_PARAMETER = re.compile(r"\s*<parameter=([^>\n]+)>(.*?)</parameter>\s*(?=<parameter=|\Z)", re.DOTALL)


def _read_qwen3_coder(body: str, tools: Sequence[ToolSpec]) -> tuple[str, dict[str, Any]]:
    function = _FUNCTION.fullmatch(body)
    if function is None:
        raise _Malformed("The tool call must be <function=NAME> … </function>")
    name, inside = function.group(1).strip(), function.group(2)
    schema = next((tool.parameters for tool in tools if tool.name == name), {})
    arguments: dict[str, Any] = {}
    position = 0
    while inside[position:].strip():
        parameter = _PARAMETER.match(inside, position)
        if parameter is None:
            raise _Malformed(f"The parameters of {name} must be <parameter=KEY> … </parameter>")
        key = parameter.group(1).strip()
        if key in arguments:
            raise _Malformed(f"The parameter {key} is given twice")
        value = parameter.group(2).removeprefix("\n").removesuffix("\n")
        arguments[key] = _typed(key, value, schema.get("properties", {}).get(key, {}))
        position = parameter.end()
    return name, arguments


def _typed(key: str, text: str, schema: dict[str, Any]) -> Any:
    """Convert raw text to its schema's type; text that does not fit is a problem, never a guess."""
    kinds = [option.get("type", "string") for option in schema.get("anyOf", [schema])]
    if "string" in kinds:
        return text
    try:
        value = json.loads(text.strip().lower() if "boolean" in kinds else text)
        _require_usable(value)
    except (ValueError, RecursionError):
        raise _Malformed(f"The parameter {key} must be of type {' or '.join(kinds)}") from None
    if _kind(value) not in kinds and not ("number" in kinds and _kind(value) == "integer"):
        raise _Malformed(f"The parameter {key} must be of type {' or '.join(kinds)}")
    return value


def _kind(value: Any) -> str:
    """The JSON Schema type of a parsed value."""
    if isinstance(value, bool):  # before int, which it is one of
        return "boolean"
    names = {int: "integer", float: "number", str: "string", dict: "object", list: "array"}
    return names.get(type(value), "null")


def _write_qwen3_coder(call: ToolCall) -> str:
    lines = [f"<function={call.name}>"]
    for key, value in call.arguments.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        if OPEN in text or CLOSE in text or re.search(r"</parameter>\s*<parameter=", text):
            raise ValueError(f"the value of {key} cannot be written in qwen3-coder, which has no escapes")
        lines += [f"<parameter={key}>", text, "</parameter>"]
    return "\n".join([*lines, "</function>"])


DIALECTS = {
    "hermes": Dialect(
        "hermes",
        f'{OPEN}\n{{"name": "view", "arguments": {{"path": "README.md"}}}}\n{CLOSE}',
        _read_hermes,
        _write_hermes,
    ),
    "qwen3-coder": Dialect(
        "qwen3-coder",
        f"{OPEN}\n<function=view>\n<parameter=path>\nREADME.md\n</parameter>\n</function>\n{CLOSE}",
        _read_qwen3_coder,
        _write_qwen3_coder,
    ),
}
