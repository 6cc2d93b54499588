"""How many sandboxes of each spec were lately in use at once: what a pool has there. Pure arithmetic."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from ..base import SandboxSpec


@dataclass
class _Use:
    now: int = 0
    peaks: deque[tuple[float, int]] = field(default_factory=deque)
    """(when, how many were in use and expected), the largest first; each is later than those before it."""
    last: float = -math.inf


class Usage:
    """Counts users, and remembers for `memory_s` how many there were. Times are seconds of the owner's clock.

    Those in use come back: counting them with those that wait is what keeps a pool from starting one for each
    that it hands out.
    """

    def __init__(self, memory_s: float) -> None:
        self._memory_s = memory_s
        self._specs: dict[SandboxSpec, _Use] = {}

    def begin(self, spec: SandboxSpec, spare: int, now: float) -> None:
        """Note that one more is wanted and will be in use, and so many to `spare` beside it."""
        self._note(spec, +1, spare, now)

    def in_use(self) -> int:
        """Of all specs together."""
        return sum(use.now for use in self._specs.values())

    def end(self, spec: SandboxSpec, now: float) -> None:
        """Note that one is in use no longer. Until now it was wanted."""
        self._note(spec, 0, 0, now)
        self._specs[spec].now -= 1

    def give_up(self, spec: SandboxSpec) -> None:
        """Note that one that was wanted will not be in use."""
        self._specs[spec].now -= 1

    def expect(self, spec: SandboxSpec, count: int, now: float) -> None:
        """Note that so many will be wanted beside those in use."""
        self._note(spec, 0, count, now)

    def forget(self, spec: SandboxSpec) -> None:
        """Expect nothing more of what was seen of a spec so far."""
        use = self._specs.get(spec)
        if use is not None:
            use.peaks.clear()

    def wanted(self, spec: SandboxSpec, now: float) -> int:
        """How many should wait, so that with those in use there are as many as lately at most."""
        use = self._remembered(spec, now)
        return max(0, use.peaks[0][1] - use.now) if use is not None else 0

    def changes_at(self, spec: SandboxSpec, now: float) -> float:
        """When `wanted` will shrink by itself; infinity when nothing is remembered."""
        use = self._remembered(spec, now)
        return use.peaks[0][0] + self._memory_s if use is not None else math.inf

    def last(self, spec: SandboxSpec) -> float:
        """When one was last wanted, as far as it is remembered."""
        use = self._specs.get(spec)
        return use.last if use is not None else -math.inf

    def specs(self) -> list[SandboxSpec]:
        """Those that are remembered, most recently used first."""
        return list(reversed(self._specs))

    def _note(self, spec: SandboxSpec, more: int, expected: int, now: float) -> None:
        use = self._specs.pop(spec, None) or _Use()
        self._specs[spec] = use  # at the end: most recently used
        use.last = now
        use.now += more
        level = use.now + expected
        while use.peaks and use.peaks[-1][1] <= level:
            use.peaks.pop()  # it will be forgotten earlier, and is not larger
        use.peaks.append((now, level))

    def _remembered(self, spec: SandboxSpec, now: float) -> _Use | None:
        """The use of a spec, if any peak of it is remembered."""
        use = self._specs.get(spec)
        if use is None:
            return None
        while use.peaks and use.peaks[0][0] + self._memory_s <= now:
            use.peaks.popleft()
        if use.peaks:
            return use
        if not use.now:
            del self._specs[spec]
        return None
