"""Where a pool's sandboxes come from and go to: what is started, kept, recycled and ended, and when.

One lock guards all of it. Under it `_plan` decides, after every change and when time is up; crews of threads
do what was decided. No engine is asked while the lock is held.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from ..backend import Backend
from ..base import EngineSilent, Sandbox, SandboxError, SandboxSpec, SandboxUnavailable
from .crew import Crew
from .idle import USED_SHARE, Idle, IdleSet
from .throttle import Throttle
from .usage import Usage

RECYCLE_S = 2.0
"""Longest time for making a sandbox blank; a new one would be there by then."""
SPARE_MEMORY = 0.2
"""Share of the machine's memory below which nothing is started ahead of need."""

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Wanted:
    """A caller who waits for a sandbox."""

    spec: SandboxSpec
    arrival: Future[tuple[Sandbox, bool]] = field(default_factory=Future)
    """The sandbox, and whether it was there already."""
    error: Exception | None = None
    """Why the last start for it came to nothing."""
    refused_at: float | None = None
    """When the engine, which answered, first refused to start one."""

    def is_refused_again(self, begun: float, now: float) -> bool:
        """Note that a start was refused. The engine may have come back only then: the next one counts."""
        if self.refused_at is None:
            self.refused_at = now
            return False
        return begun >= self.refused_at


class Scheduler:
    """See the module. All of a sandbox's life but its use; the arguments are those of `Pool`."""

    def __init__(
        self,
        inner: Backend,
        *,
        ready: int,
        recycle: bool,
        idle_s: float,
        start_s: float,
        throttle: Throttle | None,
        clock: Callable[[], float],
        spare_memory: Callable[[], float],
    ) -> None:
        cores = os.cpu_count() or 1
        most = max(8, 4 * cores)
        self._inner = inner
        self._ready = ready
        self._recycles = recycle and ready > 0
        self._idle_s, self._start_s = idle_s, start_s
        self._clock, self._spare_memory = clock, spare_memory
        self._throttle = throttle or Throttle(min(cores, most), most)
        self._demand = Usage(idle_s)
        self._shelf = IdleSet(ready, idle_s, self._demand)
        self._starters = Crew("sandbox starts", most)
        self._recyclers = Crew("sandbox recycling", 4)
        self._enders = Crew("sandbox ends", 8)
        self._changed = threading.Condition()
        self._counts: Counter[str] = Counter()
        self._out: dict[int, Idle] = {}
        self._waiting: list[Wanted] = []
        self._starting: Counter[SandboxSpec] = Counter()
        self._recycling: Counter[SandboxSpec] = Counter()
        self._ending = 0
        self._keeper: threading.Thread | None = None
        self._wakes_at = math.inf
        self._closed = False

    def expect(self, spec: SandboxSpec, count: int) -> None:
        with self._changed:
            self._demand.expect(spec, count, self._clock())
            self._plan()

    def obtain(self, spec: SandboxSpec, deadline: float) -> tuple[Sandbox, bool]:
        """One for the caller alone, and whether it was there already."""
        with self._changed:
            # The next one is to find one, unless all that come back fill the shelf without that.
            spare = not self._recycles or self._demand.in_use() + 1 < self._ready
            self._demand.begin(spec, int(spare), self._clock())
        try:
            return self._obtain(spec, deadline)
        except BaseException:
            with self._changed:
                self._demand.give_up(spec)
            raise

    def _obtain(self, spec: SandboxSpec, deadline: float) -> tuple[Sandbox, bool]:
        while True:
            with self._changed:
                if self._closed:
                    raise SandboxUnavailable("the pool of sandboxes was closed")
                now = self._clock()
                kept = self._shelf.take(spec, now)
                wanted = Wanted(spec)
                if kept is None:
                    self._waiting.append(wanted)
                else:
                    self._out[id(kept.sandbox)] = kept
                self._plan()
            if kept is None:
                return self._wait(wanted, deadline)
            if kept.is_sound(now, deadline):
                return kept.sandbox, True
            with self._changed:
                self._dismiss(kept.sandbox, False)

    def take_back(self, sandbox: Sandbox, *, sound: bool) -> None:
        with self._changed:
            self._demand.end(sandbox.spec, self._clock())
            self._dismiss(sandbox, sound)
            self._plan()

    def _dismiss(self, sandbox: Sandbox, sound: bool) -> None:
        """Recycle or end one that is out; where the pool was closed it has been ended. The lock is held."""
        kept = self._out.pop(id(sandbox), None)
        if kept is not None and sound and self._may_recycle(kept):
            self._recycle(kept)
        elif kept is not None:
            self._end(kept)

    def exchange(self, old: Sandbox, fresh: Sandbox) -> None:
        with self._changed:
            kept = self._out.pop(id(old), None)
            now = self._clock()
            if kept is None:
                self._end(Idle(fresh, now))
                return
            self._out[id(fresh)] = Idle(fresh, now)
            self._counts["recycled"] += 1

    def tend(self) -> None:
        """Do what is due by now. It happens by itself as well."""
        with self._changed:
            self._plan()

    def settle(self, *, timeout_s: float) -> bool:
        """Wait until nothing is being started, recycled or ended; whether that came in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._busy(), timeout=timeout_s)

    def counts(self) -> dict[str, int]:
        """How often what happened, and how many there are: the fields of `PoolStats` that are known here."""
        with self._changed:
            kinds = ("started", "recycled", "thrown_away", "failed")
            counts = {kind: self._counts[kind] for kind in kinds}
            return {**counts, "idle": len(self._shelf), "in_use": len(self._out)}

    def close(self, deadline: float) -> None:
        """End every sandbox and every thread. What is not done at the deadline goes on without anybody."""
        with self._changed:
            self._closed = True
            waiting, self._waiting = self._waiting, []
            for wanted in waiting:
                wanted.arrival.set_exception(SandboxUnavailable("the pool of sandboxes was closed"))
            out, self._out = list(self._out.values()), {}
            for kept in (*self._shelf.clear(), *out):
                self._end(kept)
            keeper = self._keeper
            self._changed.notify_all()
        for crew in (self._starters, self._recyclers, self._enders):
            crew.finish(deadline)
        if keeper is not None:
            keeper.join(max(0.0, deadline - time.monotonic()))

    def _wait(self, wanted: Wanted, deadline: float) -> tuple[Sandbox, bool]:
        waits_s = max(0.0, deadline - time.monotonic())
        try:
            return wanted.arrival.result(waits_s)
        except TimeoutError:
            if not self._withdraw(wanted):
                return wanted.arrival.result()  # it came in the last moment
            late = (
                f"no sandbox of {wanted.spec.image} was there within {waits_s:.1f} s; others may be starting"
            )
            raise wanted.error or SandboxUnavailable(late) from None
        except KeyboardInterrupt:
            if not self._withdraw(wanted) and not wanted.arrival.exception():
                with self._changed:
                    self._dismiss(wanted.arrival.result()[0], True)
            raise

    def _withdraw(self, wanted: Wanted) -> bool:
        """Wait no longer; False when there is an answer already."""
        with self._changed:
            if wanted not in self._waiting:
                return False
            self._waiting.remove(wanted)
            return True

    # What is decided, with the lock held

    def _plan(self) -> None:
        """Bring what there is in line with what is wanted. Called after every change, and when time is up."""
        if self._closed:
            return
        now = self._clock()
        unwanted, stale = self._shelf.overdue(now)
        for kept in stale:
            self._recycle(kept) if self._may_recycle(kept) else self._end(kept)
        for kept in unwanted:
            self._end(kept)
        coming = self._starting + self._recycling
        for wanted in self._waiting:
            if coming[wanted.spec]:
                coming[wanted.spec] -= 1
            elif self._throttle.wait_s() == 0:
                self._start(wanted.spec)
        self._start_ahead(coming, now)
        self._set_alarm(now)

    def _start_ahead(self, coming: Counter[SandboxSpec], now: float) -> None:
        """Start what will be wanted, where that takes nothing from anybody. `coming` will be idle soon."""
        room = self._ready - len(self._shelf) - coming.total()
        for spec in self._demand.specs():
            if USED_SHARE * spec.lifetime_s < self._idle_s:
                continue  # it would be too old when it is wanted
            missing = self._demand.wanted(spec, now) - self._shelf.count(spec) - coming[spec]
            for _ in range(missing):
                if not self._throttle.has_slack() or self._spare_memory() < SPARE_MEMORY:
                    return
                if room > 0:
                    room -= 1
                elif (quiet := self._shelf.make_room(spec, now)) is not None:
                    self._end(quiet)
                else:
                    break
                self._start(spec)

    def _set_alarm(self, now: float) -> None:
        """Have the keeper plan again when time alone will have changed something."""
        paused_s = self._throttle.wait_s()
        due = self._shelf.due(now)
        if 0 < paused_s < math.inf:
            due = min(due, now + paused_s)
        if due >= self._wakes_at:
            return
        if self._keeper is None:
            keeper = threading.Thread(target=self._keep, name="sandbox pool", daemon=True)
            try:
                keeper.start()
            except RuntimeError:
                return  # no thread to be had just now; the next plan tries again
            self._keeper = keeper
        self._wakes_at = due
        self._changed.notify_all()

    def _may_recycle(self, kept: Idle) -> bool:
        now = self._clock()
        if not self._recycles or self._closed:
            return False
        wanted = sum(other.spec == kept.spec for other in self._waiting)
        return wanted > self._recycling[kept.spec] or self._shelf.has_room(
            kept.spec, self._recycling.total(), now
        )

    def _arrive(self, kept: Idle, *, warm: bool) -> None:
        """Give a blank sandbox to who has waited longest, else keep it."""
        if self._closed:
            self._end(kept)
            return
        for wanted in self._waiting:
            if wanted.spec == kept.spec:
                self._waiting.remove(wanted)
                self._out[id(kept.sandbox)] = kept
                wanted.arrival.set_result((kept.sandbox, warm))
                return
        gone = self._shelf.put(kept, self._clock())
        if gone is not None:
            self._end(gone)

    def _busy(self) -> bool:
        return bool(self._waiting or self._starting.total() or self._recycling.total() or self._ending)

    # What is done, by threads that nobody waits for

    def _start(self, spec: SandboxSpec) -> None:
        self._starting[spec] += 1
        begun = self._throttle.begin()
        self._starters.do(lambda: self._do_start(spec, begun))

    def _do_start(self, spec: SandboxSpec, begun: float) -> None:
        try:
            sandbox = self._inner.open(spec, timeout_s=self._start_s)
        except Exception as error:  # whatever it is, it is for who waits
            self._failed(spec, begun, error)
            return
        with self._changed:
            now = self._clock()
            self._throttle.succeed(begun)
            self._starting -= Counter([spec])
            self._counts["started"] += 1
            self._arrive(Idle(sandbox, now), warm=False)
            self._plan()
            self._changed.notify_all()

    def _failed(self, spec: SandboxSpec, begun: float, error: Exception) -> None:
        with self._changed:
            self._demand.forget(spec)  # nobody waits for what is started ahead: it would fail for ever
            for wanted in self._waiting_for(spec):
                wanted.error = error
        silent = isinstance(error, EngineSilent) or self._clock() - begun >= self._start_s
        there = None if silent else self._has_image(spec.image)
        with self._changed:
            self._starting -= Counter([spec])
            self._counts["failed"] += 1
            waiting = self._waiting_for(spec)
            if there is None:
                self._throttle.fail(begun)
            else:
                self._throttle.refuse(begun)
            if there and isinstance(error, SandboxError):
                waiting = [wanted for wanted in waiting[:1] if wanted.is_refused_again(begun, self._clock())]
            elif there is None:
                waiting = []
            for wanted in waiting:
                self._waiting.remove(wanted)
                wanted.arrival.set_exception(error)
            self._plan()
            self._changed.notify_all()

    def _has_image(self, ref: str) -> bool | None:
        """Whether the image is there; None when the engine does not say."""
        try:
            return self._inner.has_image(ref)
        except SandboxError:
            return None

    def _waiting_for(self, spec: SandboxSpec) -> list[Wanted]:
        return [wanted for wanted in self._waiting if wanted.spec == spec]

    def _recycle(self, kept: Idle) -> None:
        self._recycling[kept.spec] += 1
        self._recyclers.do(lambda: self._do_recycle(kept))

    def _do_recycle(self, kept: Idle) -> None:
        fresh = None
        try:
            fresh = kept.sandbox.recycled(timeout_s=RECYCLE_S)
        except Exception:  # in doubt it is thrown away, whatever the doubt
            logger.warning("a sandbox could not be recycled", exc_info=True)
            kept.sandbox.close()
        with self._changed:
            self._recycling -= Counter([kept.spec])
            if fresh is None:
                self._counts["thrown_away"] += 1
            else:
                self._counts["recycled"] += 1
                self._arrive(Idle(fresh, self._clock()), warm=True)
            self._plan()
            self._changed.notify_all()

    def _end(self, kept: Idle) -> None:
        self._ending += 1
        self._enders.do(lambda: self._do_end(kept.sandbox))

    def _do_end(self, sandbox: Sandbox) -> None:
        sandbox.close()
        with self._changed:
            self._ending -= 1
            self._counts["thrown_away"] += 1
            self._changed.notify_all()

    def _keep(self) -> None:
        """The keeper's thread: wait for the alarm. It ends when there is none."""
        with self._changed:
            while not self._closed and self._wakes_at < math.inf:
                left_s = self._wakes_at - self._clock()
                if left_s > 0:
                    self._changed.wait(left_s)
                    continue
                self._wakes_at = math.inf
                self._plan()
            self._keeper = None
