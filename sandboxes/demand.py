"""How many sandboxes of each spec were lately wanted at once: what a pool keeps ready. Pure arithmetic."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from .base import SandboxSpec

AT_ONCE_S = 0.25
"""What is wanted within this time, about as long as one takes to start, cannot wait for one another."""


@dataclass
class _Wishes:
    bursts: deque[tuple[float, int]] = field(default_factory=deque)
    """(when it began, how many), oldest first."""
    last: float = -math.inf


class Demand:
    """Remembers wishes for `memory_s`. Times are of the owner's clock, in seconds."""

    def __init__(self, memory_s: float) -> None:
        self._memory_s = memory_s
        self._specs: dict[SandboxSpec, _Wishes] = {}

    def add(self, spec: SandboxSpec, count: int, now: float) -> None:
        """Note that so many are wanted now."""
        wishes = self._specs.pop(spec, None) or _Wishes()
        self._specs[spec] = wishes  # at the end: most recently used
        wishes.last = now
        if wishes.bursts and now - wishes.bursts[-1][0] <= AT_ONCE_S:
            begun, before = wishes.bursts.pop()
            wishes.bursts.append((begun, before + count))
        else:
            wishes.bursts.append((now, count))
        # A burst that a later one tops will never be the largest again.
        while len(wishes.bursts) > 1 and wishes.bursts[-2][1] <= wishes.bursts[-1][1]:
            del wishes.bursts[-2]

    def forget(self, spec: SandboxSpec) -> None:
        self._specs.pop(spec, None)

    def wanted(self, spec: SandboxSpec, now: float) -> int:
        """The largest number that was wanted at once and is still remembered."""
        wishes = self._remembered(spec, now)
        return wishes.bursts[0][1] if wishes is not None else 0

    def changes_at(self, spec: SandboxSpec, now: float) -> float:
        """When `wanted` will shrink by itself; infinity when nothing is remembered."""
        wishes = self._remembered(spec, now)
        return wishes.bursts[0][0] + self._memory_s if wishes is not None else math.inf

    def last(self, spec: SandboxSpec) -> float:
        """When one was last wanted, as far as it is remembered."""
        wishes = self._specs.get(spec)
        return wishes.last if wishes is not None else -math.inf

    def specs(self) -> list[SandboxSpec]:
        """Those that are remembered, most recently used first."""
        return list(reversed(self._specs))

    def _remembered(self, spec: SandboxSpec, now: float) -> _Wishes | None:
        wishes = self._specs.get(spec)
        if wishes is None:
            return None
        while wishes.bursts and wishes.bursts[0][0] + self._memory_s <= now:
            wishes.bursts.popleft()
        if wishes.bursts:
            return wishes
        del self._specs[spec]
        return None
