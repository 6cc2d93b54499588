"""Work in several sandboxes at once: how many fit on this machine, and ordered results from threads.

    size = fitting_workers(sandbox_spec(taskset, task))
    with closing(in_order(work, tasks, backend=backend, workers=size)) as results:
        for result in results: ...

Leaving the block early closes every sandbox that `work(backend, task)` has open.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

from sandboxes.backend import Backend
from sandboxes.base import Content, Sandbox, SandboxSpec
from sandboxes.images.recipe import ImageRecipe
from sandboxes.progress import Progress, silent

In = TypeVar("In")
Out = TypeVar("Out")

MOST = 64


class Stopped(Exception):
    """The caller closed `in_order` and needs no more results. Takes one sentence."""


def fitting_workers(spec: SandboxSpec) -> int:
    """Return how many sandboxes of a spec fit on this machine by CPU and memory."""
    cores = len(os.sched_getaffinity(0))
    return max(1, min(MOST, int(cores / spec.cpus), int(_free_mb() / spec.memory_mb)))


def _free_mb() -> float:
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) / 1024
    return 0.0


class StoppableBackend:
    """A backend whose sandboxes can all be closed from any thread, after which it opens no more."""

    def __init__(self, backend: Backend) -> None:
        self.name = backend.name
        self._backend = backend
        self._open: weakref.WeakSet[Sandbox] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._stopped = False

    def open(self, spec: SandboxSpec, *, timeout_s: float, content: Content | None = None) -> Sandbox:
        """Open a sandbox that `close` will close. Raises SandboxError, Stopped."""
        self._refuse_when_stopped()
        sandbox = self._backend.open(spec, timeout_s=timeout_s, content=content)
        with self._lock:
            self._open.add(sandbox)
        if self._stopped:
            sandbox.close()
        self._refuse_when_stopped()
        return sandbox

    def expect(self, spec: SandboxSpec, count: int = 1) -> None:
        self._backend.expect(spec, count)

    def ensure_image(self, recipe: ImageRecipe, *, timeout_s: float, progress: Progress = silent) -> str:
        return self._backend.ensure_image(recipe, timeout_s=timeout_s, progress=progress)

    def has_image(self, ref: str) -> bool:
        return self._backend.has_image(ref)

    def reap(self) -> list[str]:
        return self._backend.reap()

    def close(self) -> None:
        """Close the sandboxes opened here; the inner backend stays open."""
        self._stopped = True
        with self._lock:
            sandboxes = list(self._open)
        for sandbox in sandboxes:
            sandbox.close()

    def _refuse_when_stopped(self) -> None:
        if self._stopped:
            raise Stopped("the work was stopped")


def in_order(
    work: Callable[[Backend, In], Out], items: Iterable[In], *, backend: Backend, workers: int
) -> Generator[Out, None, None]:
    """Map `work` over items in `workers` threads; yield results in input order. Items are read lazily.

    Re-raises exceptions of `work`. Closing the generator closes every sandbox that `work` opened.
    """
    source, running = iter(items), list[Future[Out]]()
    stoppable = StoppableBackend(backend)
    with ThreadPoolExecutor(workers, thread_name_prefix="parallel") as threads:
        try:
            while True:
                for item in islice(source, 2 * workers - len(running)):
                    running.append(threads.submit(work, stoppable, item))
                if not running:
                    return
                yield running.pop(0).result()
        finally:
            stoppable.close()
            for future in running:
                future.cancel()
