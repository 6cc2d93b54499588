"""Gymnasium spaces of tool calls and observations; both hold any Unicode text.

`gymnasium.spaces.Text` would only hold short alphanumeric strings. Samples are read-only calls, because
Gymnasium's checker steps with them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gymnasium import spaces

from .tools.base import ToolError
from .tools.toolset import Toolset
from .types import Observation, ToolCall

_LOOKS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("view", {"path": "."}),
    ("search", {"query": "def "}),
    ("search", {"query": "^import ", "kind": "regex"}),
    ("search", {"query": "where is it added", "kind": "meaning"}),
    ("prs", {"search": "fix"}),
)


class ToolCallSpace(spaces.Space[ToolCall]):
    """Every well-formed call of the environment's tools."""

    def __init__(self, toolset: Toolset) -> None:
        super().__init__()
        self.toolset = toolset

    def sample(self, mask: Any = None, probability: Any = None) -> ToolCall:
        """Draw a call that changes nothing; without such tools, a call without arguments.

        Raises ValueError where every tool needs arguments. Masks are ignored.
        """
        assert mask is None and probability is None, "this space has no masks"
        looks = [look for look in _LOOKS if self.contains(ToolCall("", *look))]
        looks = looks or [(name, {}) for name in self.toolset.names if self.contains(ToolCall("", name, {}))]
        if not looks:
            raise ValueError("no call can be drawn: every tool of this environment needs arguments")
        name, arguments = looks[int(self.np_random.integers(len(looks)))]
        return ToolCall(f"sample-{int(self.np_random.integers(1 << 31))}", name, dict(arguments))

    def contains(self, x: Any) -> bool:
        if not isinstance(x, ToolCall):
            return False
        try:
            self.toolset.parse(x)
        except ToolError:
            return False
        return True

    @property
    def is_np_flattenable(self) -> bool:
        return False

    def to_jsonable(self, sample_n: Iterable[ToolCall]) -> list[Any]:
        return [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in sample_n]

    def from_jsonable(self, sample_n: list[Any]) -> list[ToolCall]:
        return [ToolCall(**fields) for fields in sample_n]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ToolCallSpace) and self.toolset == other.toolset

    def __hash__(self) -> int:
        return hash(ToolCallSpace)

    def __repr__(self) -> str:
        return f"ToolCallSpace({', '.join(self.toolset.names)})"


class ObservationSpace(spaces.Space[Observation]):
    """Every observation whose text UTF-8 can encode."""

    def sample(self, mask: Any = None, probability: Any = None) -> Observation:
        assert mask is None and probability is None, "this space has no masks"
        return Observation(f"observation {int(self.np_random.integers(1 << 31))}")

    def contains(self, x: Any) -> bool:
        return isinstance(x, Observation) and _is_unicode(x.text)

    @property
    def is_np_flattenable(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObservationSpace)

    def __hash__(self) -> int:
        return hash(ObservationSpace)

    def __repr__(self) -> str:
        return "ObservationSpace()"


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
