"""The set of idle sandboxes, bounded in number and idle time. Pure bookkeeping: the caller ends sandboxes.

Times are seconds of the caller's clock.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from ..base import Sandbox, SandboxError, SandboxSpec
from .usage import Usage

QUIET_S = 5.0
"""A spec without demand for this long makes room for another spec."""


class IdleSet:
    """At most `room` idle sandboxes. Overdue after `idle_s`, except for as many as current demand needs."""

    def __init__(self, room: int, idle_s: float, demand: Usage) -> None:
        self._room, self._idle_s, self._demand = room, idle_s, demand
        self._rows: dict[SandboxSpec, list[Idle]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))

    def count(self, spec: SandboxSpec) -> int:
        return len(self._rows.get(spec, ()))

    def take(self, spec: SandboxSpec, now: float) -> Idle | None:
        """Remove and return the newest; None if too much of its lifetime is spent: all others are older."""
        row = self._rows.get(spec)
        return self._remove(row[-1]) if row and row[-1].good_until >= now else None

    def put(self, idle: Idle, now: float) -> Idle | None:
        """Add a sandbox. Returns the sandbox to end in exchange, possibly the added one, or None."""
        evicted = None
        if len(self) >= self._room:
            evicted = self.make_room(idle.spec, now)
            if evicted is None:
                return idle
        idle.since = now
        self._rows.setdefault(idle.spec, []).append(idle)
        return evicted

    def make_room(self, spec: SandboxSpec, now: float) -> Idle | None:
        """Remove the oldest of the least recently wanted spec, if that is quiet, in favour of `spec`."""
        victim = self._quietest(spec, now)
        return self._remove(self._rows[victim][0]) if victim is not None else None

    def has_room(self, spec: SandboxSpec, coming: int, now: float) -> bool:
        """Whether one more of `spec` fits beside `coming` others that are about to be added."""
        return len(self) + coming < self._room or (
            coming < self._room and self._quietest(spec, now) is not None
        )

    def overdue(self, now: float) -> tuple[list[Idle], list[Idle]]:
        """Remove and return (sandboxes idle too long, sandboxes whose lifetime is too far spent)."""
        unwanted, stale = list[Idle](), list[Idle]()
        for spec, row in list(self._rows.items()):
            surplus = len(row) - self._demand.wanted(spec, now)
            unwanted += [idle for idle in row[: max(0, surplus)] if idle.since + self._idle_s <= now]
            stale += [idle for idle in row if idle.good_until < now and idle not in unwanted]
        for idle in (*unwanted, *stale):
            self._remove(idle)
        return unwanted, stale

    def due(self, now: float) -> float:
        """Return the earliest time at which `overdue` may return something; infinity when empty."""
        return min((self._due(spec, row, now) for spec, row in self._rows.items()), default=math.inf)

    def clear(self) -> list[Idle]:
        """Remove and return all sandboxes."""
        rows, self._rows = self._rows, {}
        return [idle for row in rows.values() for idle in row]

    def _due(self, spec: SandboxSpec, row: list[Idle], now: float) -> float:
        unwanted = row[0].since + self._idle_s
        if unwanted <= now:  # kept for demand, which ages out
            unwanted = self._demand.changes_at(spec, now)
        return min(unwanted, math.nextafter(row[0].good_until, math.inf))

    def _quietest(self, spec: SandboxSpec, now: float) -> SandboxSpec | None:
        others = [other for other in self._rows if other != spec]
        victim = min(others, key=self._demand.last, default=None)
        if victim is None:
            return None
        last = self._demand.last(victim)
        return victim if now - last > QUIET_S and last < self._demand.last(spec) else None

    def _remove(self, idle: Idle) -> Idle:
        row = self._rows[idle.spec]
        row.remove(idle)
        if not row:
            del self._rows[idle.spec]
        return idle


USED_SHARE = 0.1
"""Share of a sandbox's lifetime that may be spent when it is handed out."""
UNCHECKED_S = 1.0
"""A sandbox idle for longer is pinged before it is handed out: it may have died unnoticed."""
CHECK_S = 1.0
"""Deadline of that ping."""


@dataclass(eq=False)
class Idle:
    """A blank sandbox without a user."""

    sandbox: Sandbox
    renewed: float
    """Start of its lifetime: when it was started or last recycled."""
    since: float = 0.0
    """Time at which it became idle."""

    @property
    def spec(self) -> SandboxSpec:
        return self.sandbox.spec

    @property
    def good_until(self) -> float:
        return self.renewed + USED_SHARE * self.spec.lifetime_s

    def is_sound(self, now: float, deadline: float) -> bool:
        """Whether it is alive, by a ping after a long idle time; `deadline` is on the machine's clock."""
        if now - self.since <= UNCHECKED_S:
            return True
        try:
            self.sandbox.ping(timeout_s=max(0.0, min(CHECK_S, deadline - time.monotonic())))
        except SandboxError:
            return False
        return True
