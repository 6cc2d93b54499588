"""Peak concurrent use of each spec: how many sandboxes a pool should keep idle. Pure arithmetic."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from ..base import SandboxSpec


@dataclass
class _Use:
    now: int = 0
    peaks: deque[tuple[float, int]] = field(default_factory=deque)
    """(time, number in use and expected). A monotonic queue: numbers fall, times rise."""
    last: float = -math.inf


class Usage:
    """Counts sandboxes in use per spec, and remembers peaks for `memory_s`. Times: the owner's clock.

    Sandboxes in use are returned later. Counting them together with the expected ones keeps a pool from
    starting a new sandbox for each that it hands out.
    """

    def __init__(self, memory_s: float) -> None:
        self._memory_s = memory_s
        self._specs: dict[SandboxSpec, _Use] = {}

    def begin(self, spec: SandboxSpec, spare: int, now: float) -> None:
        """Count one more sandbox in use, and expect `spare` more beside it."""
        self._note(spec, +1, spare, now)

    def in_use(self) -> int:
        """Return the number in use, over all specs."""
        return sum(use.now for use in self._specs.values())

    def end(self, spec: SandboxSpec, now: float) -> None:
        """Count one sandbox less in use. The level until now is noted as a peak first."""
        self._note(spec, 0, 0, now)
        self._specs[spec].now -= 1

    def give_up(self, spec: SandboxSpec) -> None:
        """Count one less: the request failed, so no sandbox was used and no peak is noted."""
        self._specs[spec].now -= 1

    def expect(self, spec: SandboxSpec, count: int, now: float) -> None:
        """Expect `count` sandboxes beside those in use."""
        self._note(spec, 0, count, now)

    def forget(self, spec: SandboxSpec) -> None:
        """Drop the recorded peaks of a spec."""
        use = self._specs.get(spec)
        if use is not None:
            use.peaks.clear()

    def wanted(self, spec: SandboxSpec, now: float) -> int:
        """Return how many idle sandboxes bring the total (idle + in use) up to the remembered peak."""
        use = self._remembered(spec, now)
        return max(0, use.peaks[0][1] - use.now) if use is not None else 0

    def changes_at(self, spec: SandboxSpec, now: float) -> float:
        """Return when `wanted` next shrinks by itself; infinity when nothing is remembered."""
        use = self._remembered(spec, now)
        return use.peaks[0][0] + self._memory_s if use is not None else math.inf

    def last(self, spec: SandboxSpec) -> float:
        """Return the last request time of a spec; minus infinity when none is remembered."""
        use = self._specs.get(spec)
        return use.last if use is not None else -math.inf

    def specs(self) -> list[SandboxSpec]:
        """Return the remembered specs, most recently used first."""
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
        """Return the use of a spec, if any of its peaks is still remembered; forget expired peaks."""
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
