"""Limit of concurrent sandbox starts, learnt from the outcome of recent starts (AIMD, as in TCP).

Additive increase, multiplicative decrease: good starts widen the limit slowly, a failed or slow start halves
it. After a failure no start is allowed for a pause that grows exponentially and is jittered, so that many
processes in front of one engine do not come back together. Pure arithmetic: neither waits nor locks.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable

SLOW = 4.0
"""A start that takes this many times the best seen start means that the engine is overloaded."""
NEVER_SLOW_S = 0.25
"""Below this, differences between starts come from scheduling, not from load."""
FORGETTING = 1.01
"""The best time grows by this factor per start, so that a slower machine does not stay narrow for good."""
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0


class Throttle:
    """Announce a start by `begin`; pass its token to `succeed`, `fail` or `refuse` at its end."""

    def __init__(
        self,
        first: int,
        most: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """Begin with `first` concurrent starts, at most `most`. `chance` is uniform in [0, 1)."""
        assert 1 <= first <= most, f"must begin between 1 and {most}, got {first}"
        self.width = float(first)
        self.under_way = 0
        self._most = most
        self._clock, self._chance = clock, chance
        self._best_s = math.inf
        self._failures = 0
        self._narrowed_at = -math.inf
        self._paused_until = -math.inf

    def wait_s(self) -> float:
        """Seconds until a start is allowed: 0 now, infinity when a running start must end first."""
        if self.under_way >= int(self.width):
            return math.inf
        return max(0.0, self._paused_until - self._clock())

    def has_slack(self) -> bool:
        """Whether a start is allowed now and would leave a slot free for a caller."""
        return self.wait_s() == 0 and (not self.under_way or self.under_way + 1 < int(self.width))

    def begin(self) -> float:
        """Count a start; return its token, the time of the beginning."""
        self.under_way += 1
        return self._clock()

    def succeed(self, begun: float) -> None:
        self.under_way -= 1
        self._failures, self._paused_until = 0, -math.inf
        took_s = self._clock() - begun
        if self._is_slow(took_s):
            self._narrow(begun)
        elif self.under_way + 1 >= int(self.width):  # a gate that was not the limit has not been tried
            self.width = min(float(self._most), self.width + 1.0 / self.width)
        self._best_s = min(took_s, self._best_s * FORGETTING)

    def fail(self, begun: float) -> None:
        """The engine did not answer."""
        self.under_way -= 1
        if self._narrow(begun):  # else it failed together with one that has been counted
            pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self._failures, 30))
            self._failures += 1
            self._paused_until = self._clock() + pause_s * (0.5 + 0.5 * self._chance())

    def refuse(self, begun: float) -> None:
        """The engine answered and refused: the request is wrong. Narrows only if that was slow."""
        self.under_way -= 1
        if self._is_slow(self._clock() - begun):
            self._narrow(begun)

    def _is_slow(self, took_s: float) -> bool:
        return took_s > max(NEVER_SLOW_S, SLOW * self._best_s)

    def _narrow(self, begun: float) -> bool:
        """Halve the limit, once per set of concurrent starts; return whether this was the first."""
        if begun <= self._narrowed_at:
            return False
        self.width = max(1.0, self.width / 2.0)
        self._narrowed_at = self._clock()
        return True
