"""Blank sandboxes that wait for somebody, bounded in number and in time. Pure bookkeeping.

Times are of the owner's clock, in seconds. What has to go is returned to the owner, who ends it.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from ..base import Sandbox, SandboxError, SandboxSpec
from .usage import Usage

QUIET_S = 5.0
"""A spec that was not wanted for this long makes room for those that were."""


class IdleSet:
    """At most `room` sandboxes. One that waited for `idle_s` has to go, unless so many are in demand."""

    def __init__(self, room: int, idle_s: float, demand: Usage) -> None:
        self._room, self._idle_s, self._demand = room, idle_s, demand
        self._rows: dict[SandboxSpec, list[Idle]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))

    def count(self, spec: SandboxSpec) -> int:
        return len(self._rows.get(spec, ()))

    def take(self, spec: SandboxSpec, now: float) -> Idle | None:
        """The one that came last, if it has enough of its lifetime left: the others are older."""
        row = self._rows.get(spec)
        return self._remove(row[-1]) if row and row[-1].good_until >= now else None

    def put(self, kept: Idle, now: float) -> Idle | None:
        """Have one wait. Returns what has to go for it, which may be itself."""
        gone = None
        if len(self) >= self._room:
            gone = self.make_room(kept.spec, now)
            if gone is None:
                return kept
        kept.since = now
        self._rows.setdefault(kept.spec, []).append(kept)
        return gone

    def make_room(self, spec: SandboxSpec, now: float) -> Idle | None:
        """Take out the oldest of the least recently wanted spec, if that is quiet, for one of `spec`."""
        victim = self._quietest(spec, now)
        return self._remove(self._rows[victim][0]) if victim is not None else None

    def has_room(self, spec: SandboxSpec, coming: int, now: float) -> bool:
        """Whether one more of `spec` could wait, when so many others are about to."""
        return len(self) + coming < self._room or (
            coming < self._room and self._quietest(spec, now) is not None
        )

    def overdue(self, now: float) -> tuple[list[Idle], list[Idle]]:
        """Take out those that waited too long, and those that used too much of their lifetime meanwhile."""
        unwanted, stale = list[Idle](), list[Idle]()
        for spec, row in list(self._rows.items()):
            surplus = len(row) - self._demand.wanted(spec, now)
            unwanted += [kept for kept in row[: max(0, surplus)] if kept.since + self._idle_s <= now]
            stale += [kept for kept in row if kept.good_until < now and kept not in unwanted]
        for kept in (*unwanted, *stale):
            self._remove(kept)
        return unwanted, stale

    def due(self, now: float) -> float:
        """When `overdue` will have something, at the earliest; infinity when nothing waits."""
        return min((self._due(spec, row, now) for spec, row in self._rows.items()), default=math.inf)

    def clear(self) -> list[Idle]:
        """Take out all."""
        rows, self._rows = self._rows, {}
        return [kept for row in rows.values() for kept in row]

    def _due(self, spec: SandboxSpec, row: list[Idle], now: float) -> float:
        unwanted = row[0].since + self._idle_s
        if unwanted <= now:  # it is kept for demand that will be forgotten
            unwanted = self._demand.changes_at(spec, now)
        return min(unwanted, math.nextafter(row[0].good_until, math.inf))

    def _quietest(self, spec: SandboxSpec, now: float) -> SandboxSpec | None:
        others = [other for other in self._rows if other != spec]
        victim = min(others, key=self._demand.last, default=None)
        if victim is None:
            return None
        last = self._demand.last(victim)
        return victim if now - last > QUIET_S and last < self._demand.last(spec) else None

    def _remove(self, kept: Idle) -> Idle:
        row = self._rows[kept.spec]
        row.remove(kept)
        if not row:
            del self._rows[kept.spec]
        return kept


USED_SHARE = 0.1
"""How much of its lifetime a sandbox may have waited away when it is handed out."""
UNCHECKED_S = 1.0
"""After waiting longer than this it is asked for a sign of life before it is handed out."""
CHECK_S = 1.0
"""How long that sign may take."""


@dataclass(eq=False)
class Idle:
    """See the module. Times are of the pool's clock, in seconds."""

    sandbox: Sandbox
    renewed: float
    """When its lifetime began, with its start or when it was last recycled."""
    since: float = 0.0
    """When it began to wait."""

    @property
    def spec(self) -> SandboxSpec:
        return self.sandbox.spec

    @property
    def good_until(self) -> float:
        return self.renewed + USED_SHARE * self.spec.lifetime_s

    def is_sound(self, now: float, deadline: float) -> bool:
        """Whether it is alive, as far as that has to be asked; not asked beyond `deadline` (real time)."""
        if now - self.since <= UNCHECKED_S:
            return True
        try:
            self.sandbox.ping(timeout_s=max(0.0, min(CHECK_S, deadline - time.monotonic())))
        except SandboxError:
            return False
        return True
