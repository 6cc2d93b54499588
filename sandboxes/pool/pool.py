"""A backend that keeps blank sandboxes ready, and gives those that come back out again.

A sandbox takes long to start and a moment to fill, so blank ones of a spec wait here for any content. Who
closes one returns it: it is recycled in the background where the backend can prove it blank, and thrown away
in any doubt. As many of a spec are there as were lately in use at once and one to spare, within a bound for
all that wait, while the machine has memory left. Every start goes through one throttle, callers' as well.

The key is the whole spec, so that what held a policy never serves for grading (`SandboxSpec.role`).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..backend import Backend
from ..base import Content, SandboxLost, SandboxSpec
from ..images.recipe import ImageRecipe
from ..progress import Progress, silent
from .lent import LentSandbox
from .scheduler import Scheduler
from .throttle import Throttle

START_S = 60.0
"""Longest time for a start, whoever waits for it."""
END_S = 20.0
"""Longest wait for threads and sandboxes when the pool is closed."""
IDLE_S = 60.0
"""How long one waits without demand before it is ended."""


@dataclass(frozen=True)
class PoolStats:
    """Counts since the pool was made, and what there is now. All that exists: `started - thrown_away`."""

    started: int
    """Sandboxes that came up."""
    handed_out: int
    warm: int
    """Of those handed out, how many had not to be started for it."""
    recycled: int
    thrown_away: int
    """Ended, for whatever reason."""
    failed: int
    """Starts that came to nothing."""
    idle: int
    in_use: int


class Pool:
    """See the module. A `Backend` around another, `inner`, which stays usable and is closed with this one."""

    def __init__(
        self,
        inner: Backend,
        *,
        ready: int | None = None,
        recycle: bool = True,
        idle_s: float = IDLE_S,
        start_s: float = START_S,
        throttle: Throttle | None = None,
        clock: Callable[[], float] = time.monotonic,
        spare_memory: Callable[[], float] | None = None,
    ) -> None:
        """Keep at most `ready` waiting, by default what suits the machine; 0 keeps and recycles none.

        `clock` tells how long sandboxes have waited, and `spare_memory` the share of memory that is
        available; deadlines of callers are real time.
        """
        self.name = inner.name
        self.inner = inner
        self._counting = threading.Lock()
        self._handed_out, self._warm = 0, 0
        self._supply = Scheduler(
            inner,
            ready=suitable_ready() if ready is None else ready,
            recycle=recycle,
            idle_s=idle_s,
            start_s=start_s,
            throttle=throttle,
            clock=clock,
            spare_memory=spare_memory or available_memory,
        )

    def open(self, spec: SandboxSpec, *, timeout_s: float, content: Content | None = None) -> LentSandbox:
        """Hand one out with `content` in it, warm where there is one.

        Where the engine does not answer it is tried again until the deadline. Raises `SandboxError`.
        """
        deadline = time.monotonic() + timeout_s
        again = True
        while True:
            sandbox, warm = self._supply.obtain(spec, deadline)
            try:
                if content is not None:
                    sandbox.lay(content, timeout_s=max(0.0, deadline - time.monotonic()))
            except BaseException as error:
                self._supply.take_back(sandbox, sound=False)
                if not (again and warm and isinstance(error, SandboxLost)):
                    raise
                again = False  # it had died since it was looked at: once, that is nobody's fault
            else:
                with self._counting:
                    self._handed_out += 1
                    self._warm += warm
                return LentSandbox(sandbox, self._supply)

    def expect(self, spec: SandboxSpec, count: int = 1) -> None:
        """Start what is missing in the background, within the bounds.

        Of a spec whose `lifetime_s` is short (under ten times `idle_s`) none is started ahead of need.
        """
        self._supply.expect(spec, count)

    def ensure_image(self, recipe: ImageRecipe, *, timeout_s: float, progress: Progress = silent) -> str:
        return self.inner.ensure_image(recipe, timeout_s=timeout_s, progress=progress)

    def has_image(self, ref: str) -> bool:
        return self.inner.has_image(ref)

    def reap(self) -> list[str]:
        return self.inner.reap()

    def stats(self) -> PoolStats:
        with self._counting:
            return PoolStats(handed_out=self._handed_out, warm=self._warm, **self._supply.counts())

    def settle(self, *, timeout_s: float) -> bool:
        """Wait until nothing is being started, recycled or ended; whether that came in time."""
        return self._supply.settle(timeout_s=timeout_s)

    def tend(self) -> None:
        """Do what is due by now: end what waited too long, start what is missing. The pool does so itself."""
        self._supply.tend()

    def close(self) -> None:
        self._supply.close(time.monotonic() + END_S)
        self.inner.close()


def suitable_ready() -> int:
    """How many idle sandboxes suit this machine: a few for each core, in a small part of its memory."""
    try:
        memory_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    except (OSError, ValueError):
        memory_mb = 4_096
    return max(1, min(8 * (os.cpu_count() or 1), memory_mb // 256))


def available_memory() -> float:
    """The share of this machine's memory that is available; 1 where that cannot be told."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        values = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
        return values["MemAvailable"] / values["MemTotal"]
    except (OSError, KeyError, ValueError):
        return 1.0
