"""Schedules a pool's sandboxes: starts, hand-outs, recycling and ends.

One lock guards all state. `_plan` runs under it after every change and at the next due time, and queues jobs;
worker threads live while there are jobs. No engine is called under the lock.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal

from ..backend import Backend
from ..base import EngineSilent, Sandbox, SandboxError, SandboxSpec, SandboxUnavailable
from .idle import USED_SHARE, Idle, IdleSet
from .throttle import Throttle
from .usage import Usage

RECYCLE_S = 2.0
"""Deadline for making a sandbox blank; a new start takes no longer."""
SPARE_MEMORY = 0.2
"""Share of memory that must be free to start a sandbox ahead of need, or to keep more than so many idle."""
JobKind = Literal["start", "recycle", "end"]

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Wanted:
    """A caller that waits for a sandbox."""

    spec: SandboxSpec
    arrival: Future[tuple[Sandbox, bool]] = field(default_factory=Future)
    """(the sandbox, whether it is warm: not started for this caller)."""
    error: Exception | None = None
    """Error of the last failed start of this spec."""
    refused_at: float | None = None
    """Time of the engine's first refusal, on the machine's clock."""

    def is_refused_again(self, begun: float) -> bool:
        """Note a refused start. The first may come from an engine just restarted; the next one counts."""
        if self.refused_at is None:
            self.refused_at = time.monotonic()
            return False
        return begun >= self.refused_at


class Scheduler:
    """Schedules sandbox start, reuse and shutdown. Thread-safe; one lock; no engine call under it."""

    def __init__(
        self,
        inner: Backend,
        *,
        ready: int,
        kept: int,
        recycle: bool,
        idle_s: float,
        start_s: float,
        throttle: Throttle | None,
        clock: Callable[[], float],
        spare_memory: Callable[[], float],
    ) -> None:
        cores = os.cpu_count() or 1
        most = max(8, 4 * cores)
        self._inner, self._ready = inner, ready
        self._recycles = recycle and kept > 0
        self._idle_s, self._start_s = idle_s, start_s
        self._clock, self._spare_memory = clock, spare_memory
        self._throttle = throttle or Throttle(min(cores, most), most)
        self._demand = Usage(idle_s)
        self._idle = IdleSet(kept, idle_s, self._demand)
        self._changed = threading.Condition()
        self._jobs: dict[JobKind, deque[Callable[[], None]]] = defaultdict(deque)
        self._most_threads: dict[JobKind, int] = {"start": most, "recycle": 4, "end": 8}
        self._threads, self._counts = Counter[JobKind](), Counter[str]()
        self._out = 0
        self._waiting: list[Wanted] = []
        self._starting, self._recycling = Counter[SandboxSpec](), Counter[SandboxSpec]()
        self._keeper: threading.Thread | None = None
        self._wakes_at = math.inf
        self._closed = False

    def expect(self, spec: SandboxSpec, count: int) -> None:
        with self._changed:
            self._demand.expect(spec, count, self._clock())
            self._plan()

    def obtain(self, spec: SandboxSpec, deadline: float) -> tuple[Sandbox, bool]:
        """Return a sandbox for the caller's exclusive use, and whether it is warm."""
        with self._changed:
            # Have an idle one for the next caller, unless those in use will fill the idle set.
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
                idle = self._idle.take(spec, now)
                wanted = Wanted(spec)
                if idle is None:
                    self._waiting.append(wanted)
                else:
                    self._out += 1
                self._plan()
            if idle is None:
                return self._wait(wanted, deadline)
            if idle.is_sound(now, deadline):
                return idle.sandbox, True
            with self._changed:
                self._out -= 1
                self._end(idle.sandbox)

    def take_back(self, sandbox: Sandbox, *, sound: bool) -> None:
        """Take a handed-out sandbox back, and recycle it if `sound`."""
        with self._changed:
            self._demand.end(sandbox.spec, self._clock())
            self._out -= 1
            if not self._closed:
                self._recycle(sandbox) if sound and self._may_recycle(sandbox.spec) else self._end(sandbox)
                self._plan()
                return
            self._counts["thrown_away"] += 1
        sandbox.close()  # in the user's thread: the pool's threads have ended

    def tend(self) -> None:
        """Plan now. The keeper thread does so when something is due."""
        with self._changed:
            self._plan()

    def settle(self, *, timeout_s: float) -> bool:
        """Wait until no start, recycling or end is in flight; return whether that came in time."""
        with self._changed:
            return self._changed.wait_for(
                lambda: not (self._waiting or self._threads.total() or any(self._jobs.values())), timeout_s
            )

    def counts(self) -> dict[str, int]:
        """Return the fields of `PoolStats` that are known here."""
        with self._changed:
            counts = {kind: self._counts[kind] for kind in ("started", "recycled", "thrown_away", "failed")}
            return {**counts, "idle": len(self._idle), "in_use": self._out}

    def close(self, deadline: float) -> None:
        """End idle sandboxes and threads within the deadline; `inner.close` ends the rest."""
        with self._changed:
            self._closed = True
            for wanted in self._waiting:
                wanted.arrival.set_exception(SandboxUnavailable("the pool of sandboxes was closed"))
            self._waiting.clear()
            for idle in self._idle.clear():
                self._end(idle.sandbox)
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._keeper is None and not self._threads.total(),
                timeout=max(0.0, deadline - time.monotonic()),
            )

    def _wait(self, wanted: Wanted, deadline: float) -> tuple[Sandbox, bool]:
        waits_s = max(0.0, deadline - time.monotonic())
        try:
            return wanted.arrival.result(waits_s)
        except TimeoutError:
            if not self._withdraw(wanted):
                return wanted.arrival.result()  # set between the timeout and the lock
            late = (
                f"no sandbox of {wanted.spec.image} was there within {waits_s:.1f} s; others may be starting"
            )
            raise wanted.error or SandboxUnavailable(late) from None
        except KeyboardInterrupt:
            # It may have arrived between the interrupt and the lock: end it, or it stays counted as in use.
            if not self._withdraw(wanted) and not wanted.arrival.exception():
                with self._changed:
                    self._out -= 1
                    self._end(wanted.arrival.result()[0])
            raise

    def _withdraw(self, wanted: Wanted) -> bool:
        """Stop waiting; False when a sandbox has arrived already."""
        with self._changed:
            if wanted not in self._waiting:
                return False
            self._waiting.remove(wanted)
            return True

    # Decisions. The lock is held.

    def _plan(self) -> None:
        """Queue the jobs that bring the existing sandboxes in line with demand."""
        if self._closed:
            return
        now = self._clock()
        unwanted, stale = self._idle.overdue(now)
        for idle in stale:
            self._recycle(idle.sandbox) if self._may_recycle(idle.spec) else self._end(idle.sandbox)
        for idle in unwanted:
            self._end(idle.sandbox)
        coming = self._starting + self._recycling
        for wanted in self._waiting:
            if coming[wanted.spec]:
                coming[wanted.spec] -= 1
            elif self._throttle.wait_s() == 0:
                self._start(wanted.spec)
        self._start_ahead(coming, now)
        self._set_alarm(now)

    def _start_ahead(self, coming: Counter[SandboxSpec], now: float) -> None:
        """Start sandboxes for expected demand, unless callers need the slot. `coming`: idle soon."""
        room = self._ready - len(self._idle) - coming.total()
        for spec in self._demand.specs():
            if USED_SHARE * spec.lifetime_s < self._idle_s:
                continue  # too short-lived: too old before it is idle for `idle_s`
            missing = self._demand.wanted(spec, now) - self._idle.count(spec) - coming[spec]
            for _ in range(missing):
                if not self._throttle.has_slack() or self._spare_memory() < SPARE_MEMORY:
                    return
                if room > 0:
                    room -= 1
                elif (quiet := self._idle.make_room(spec, now)) is not None:
                    self._end(quiet.sandbox)
                else:
                    break
                self._start(spec)

    def _set_alarm(self, now: float) -> None:
        """Wake the keeper thread to plan again when something is next due."""
        paused_s = self._throttle.wait_s()
        due = self._idle.due(now)
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

    def _may_recycle(self, spec: SandboxSpec) -> bool:
        """Whether a blank sandbox of this spec would be handed out at once or fit into the idle set."""
        if not self._recycles or self._closed:
            return False
        if len(self._waiting_for(spec)) > self._recycling[spec]:
            return True
        coming = self._recycling.total()
        spare = len(self._idle) + coming < self._ready or self._spare_memory() >= SPARE_MEMORY
        return spare and self._idle.has_room(spec, coming, self._clock())

    def _arrive(self, sandbox: Sandbox, *, warm: bool) -> None:
        """Give a blank sandbox to the caller that has waited longest, else keep it idle."""
        if self._closed:
            self._end(sandbox)
            return
        if waiting := self._waiting_for(sandbox.spec):
            self._waiting.remove(waiting[0])
            self._out += 1
            waiting[0].arrival.set_result((sandbox, warm))
            return
        surplus = self._idle.put(Idle(sandbox, renewed=self._clock()), self._clock())
        if surplus is not None:
            self._end(surplus.sandbox)

    def _queue(self, kind: JobKind, job: Callable[[], None]) -> None:
        """Hand a job, which must not raise, to a worker thread."""
        self._jobs[kind].append(job)
        if self._threads[kind] < self._most_threads[kind]:
            thread = threading.Thread(target=self._work, args=(kind,), name=f"sandbox {kind}", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return  # no thread to be had just now; the thread of the next job does this one too
            self._threads[kind] += 1

    # Jobs. Their threads take the lock themselves.

    def _work(self, kind: JobKind) -> None:
        """Worker thread: run jobs until none is left."""
        while True:
            with self._changed:
                if not self._jobs[kind]:
                    self._threads[kind] -= 1
                    self._changed.notify_all()
                    return
                job = self._jobs[kind].popleft()
            job()

    def _start(self, spec: SandboxSpec) -> None:
        self._starting[spec] += 1
        token = self._throttle.begin()
        self._queue("start", lambda: self._do_start(spec, token))

    def _do_start(self, spec: SandboxSpec, token: float) -> None:
        begun = time.monotonic()
        try:
            sandbox = self._inner.open(spec, timeout_s=self._start_s)
        except Exception as error:  # even a backend's defect: the waiting callers raise it
            self._failed(spec, token, begun, error)
            return
        with self._changed:
            self._throttle.succeed(token)
            self._starting -= Counter([spec])
            self._counts["started"] += 1
            self._arrive(sandbox, warm=False)
            self._plan()

    def _failed(self, spec: SandboxSpec, token: float, begun: float, error: Exception) -> None:
        """Note a failed start: callers retry while the engine is silent, else raise the error.

        `token` is the throttle's time of the start, `begun` the same on the machine's clock.
        """
        silent = isinstance(error, EngineSilent) or time.monotonic() - begun >= self._start_s
        with self._changed:
            # A start ahead of demand has no caller to raise to: it would retry for ever.
            self._demand.forget(spec)
            for wanted in self._waiting_for(spec):
                wanted.error = error
        there = None if silent else self._has_image(spec.image)
        with self._changed:
            self._starting -= Counter([spec])
            self._counts["failed"] += 1
            waiting = self._waiting_for(spec)
            if there is None:
                self._throttle.fail(token)
            else:
                self._throttle.refuse(token)
            if there and isinstance(error, SandboxError):
                waiting = [wanted for wanted in waiting[:1] if wanted.is_refused_again(begun)]
            elif there is None:
                waiting = []
            for wanted in waiting:
                self._waiting.remove(wanted)
                wanted.arrival.set_exception(error)
            self._plan()

    def _has_image(self, ref: str) -> bool | None:
        """Whether the image exists; None when the engine does not answer."""
        try:
            return self._inner.has_image(ref)
        except SandboxError:
            return None

    def _waiting_for(self, spec: SandboxSpec) -> list[Wanted]:
        return [wanted for wanted in self._waiting if wanted.spec == spec]

    def _recycle(self, sandbox: Sandbox) -> None:
        self._recycling[sandbox.spec] += 1
        self._queue("recycle", lambda: self._do_recycle(sandbox))

    def _do_recycle(self, sandbox: Sandbox) -> None:
        fresh = None
        try:
            fresh = sandbox.recycled(timeout_s=RECYCLE_S)
        except Exception:  # a backend's defect: not proven blank, so thrown away
            logger.warning("a sandbox could not be recycled", exc_info=True)
            sandbox.close()
        with self._changed:
            self._recycling -= Counter([sandbox.spec])
            if fresh is None:
                self._counts["thrown_away"] += 1
            else:
                self._counts["recycled"] += 1
                self._arrive(fresh, warm=True)
            self._plan()

    def _end(self, sandbox: Sandbox) -> None:
        self._counts["thrown_away"] += 1
        self._queue("end", sandbox.close)

    def _keep(self) -> None:
        """Keeper thread: plan at every due time; end when nothing is due."""
        with self._changed:
            while not self._closed and self._wakes_at < math.inf:
                left_s = self._wakes_at - self._clock()
                if left_s > 0:
                    self._changed.wait(left_s)
                    continue
                self._wakes_at = math.inf
                self._plan()
            self._keeper = None
            self._changed.notify_all()
