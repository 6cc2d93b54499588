"""A pool of warm sandboxes over any backend: started ahead, handed out, recycled when closed.

A sandbox starts slowly and takes content fast, so blank sandboxes of a spec wait here for any content.
Closing a sandbox returns it: it is recycled if the backend proves it blank, else ended.
Per spec, keep (peak concurrent use in the last `idle_s`) + 1 idle sandboxes; start so many ahead that at most
`ready` are idle, and keep at most `kept` idle that were used: a start costs far more than recycling.
Start none ahead when < 20 % memory is free. Every start, a caller's included, goes through one throttle.

The key is the whole spec, so that a sandbox that held a policy never serves for grading (`SandboxSpec.role`).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..backend import Backend
from ..base import Content, Sandbox, SandboxLost, SandboxSpec
from ..images.recipe import ImageRecipe
from ..progress import Progress, silent
from .scheduler import Scheduler
from .throttle import Throttle

START_S = 60.0
"""Longest time for a start."""
END_S = 20.0
"""Longest wait for threads and sandboxes when the pool is closed."""
IDLE_S = 60.0
"""How long a sandbox stays idle without demand before it is ended."""


@dataclass(frozen=True)
class PoolStats:
    """Counts since the pool was made; `idle` and `in_use` are current. `started - thrown_away` are alive."""

    started: int
    handed_out: int
    warm: int
    """Handed out without a start for this caller."""
    recycled: int
    thrown_away: int
    """Ended, for any reason."""
    failed: int
    """Failed starts."""
    idle: int
    in_use: int


class Pool:
    """A `Backend` around another, `inner`, which stays usable and is closed together with the pool."""

    def __init__(
        self,
        inner: Backend,
        *,
        ready: int | None = None,
        kept: int | None = None,
        recycle: bool = True,
        idle_s: float = IDLE_S,
        start_s: float = START_S,
        throttle: Throttle | None = None,
        clock: Callable[[], float] = time.monotonic,
        spare_memory: Callable[[], float] | None = None,
    ) -> None:
        """Start at most `ready` ahead, by default as suits the machine, and keep at most `kept` idle.

        By default, `kept` is four times `ready`; 0 disables idling and recycling.
        `clock` measures idle time, `spare_memory` returns the share of memory that is available; callers'
        deadlines use real time.
        """
        self.name = inner.name
        self.inner = inner
        self._counting = threading.Lock()
        self._handed_out, self._warm = 0, 0
        ready = suitable_ready() if ready is None else ready
        self._scheduler = Scheduler(
            inner,
            ready=ready,
            kept=4 * ready if kept is None else kept,
            recycle=recycle,
            idle_s=idle_s,
            start_s=start_s,
            throttle=throttle,
            clock=clock,
            spare_memory=spare_memory or available_memory,
        )

    def open(self, spec: SandboxSpec, *, timeout_s: float, content: Content | None = None) -> Sandbox:
        """Hand out a sandbox that holds `content`, warm if one is idle. Closing the handle returns it.

        While the engine is silent, starts are retried until the deadline. Raises `SandboxError`.
        """
        deadline = time.monotonic() + timeout_s
        again = True
        while True:
            sandbox, warm = self._scheduler.obtain(spec, deadline)
            try:
                if content is not None:
                    sandbox.lay(content, timeout_s=max(0.0, deadline - time.monotonic()))
            except BaseException as error:
                self._scheduler.take_back(sandbox, sound=False)
                if not (again and warm and isinstance(error, SandboxLost)):
                    raise
                again = False  # it died while idle, after its last ping: try one more
            else:
                with self._counting:
                    self._handed_out += 1
                    self._warm += warm
                sandbox.on_close = self._scheduler.take_back
                return sandbox

    def expect(self, spec: SandboxSpec, count: int = 1) -> None:
        """Start missing sandboxes in the background, within the pool's bounds.

        A spec with `lifetime_s` under ten times `idle_s` is never started ahead: it would expire while idle.
        """
        self._scheduler.expect(spec, count)

    def ensure_image(self, recipe: ImageRecipe, *, timeout_s: float, progress: Progress = silent) -> str:
        return self.inner.ensure_image(recipe, timeout_s=timeout_s, progress=progress)

    def has_image(self, ref: str) -> bool:
        return self.inner.has_image(ref)

    def reap(self) -> list[str]:
        return self.inner.reap()

    def stats(self) -> PoolStats:
        with self._counting:
            return PoolStats(handed_out=self._handed_out, warm=self._warm, **self._scheduler.counts())

    def settle(self, *, timeout_s: float) -> bool:
        """Wait until no start, recycling or end is in flight; return whether that came in time."""
        return self._scheduler.settle(timeout_s=timeout_s)

    def tend(self) -> None:
        """End sandboxes that were idle too long and start missing ones. The pool also does so by itself."""
        self._scheduler.tend()

    def close(self) -> None:
        self._scheduler.close(time.monotonic() + END_S)
        self.inner.close()


def suitable_ready() -> int:
    """Return how many idle sandboxes suit this machine: 8 per core, at most one per 256 MB of memory."""
    try:
        memory_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    except (OSError, ValueError):
        memory_mb = 4_096
    return max(1, min(8 * (os.cpu_count() or 1), memory_mb // 256))


def available_memory() -> float:
    """Return the share of this machine's memory that is available; 1 where unknown."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        values = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
        return values["MemAvailable"] / values["MemTotal"]
    except (OSError, KeyError, ValueError):
        return 1.0
