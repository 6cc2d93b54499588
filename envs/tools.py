"""The tools a policy may call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ToolSpec:
    """A tool as the policy is told of it: a name, one paragraph, and JSON Schema parameters."""

    name: str
    description: str
    parameters: dict[str, Any]
