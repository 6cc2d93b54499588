"""The calls of one handle: side by side, held back while disks change, refused once it is over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .base import SandboxLost, SandboxUnresponsive


class Calls:
    """Counts those under way."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._changed = threading.Condition()
        self._count = 0
        self._held = False
        self._over = False

    @contextmanager
    def under_way(self, deadline: float) -> Iterator[None]:
        """Around a call. Raises `SandboxLost` when it is over, `SandboxUnresponsive` at the deadline."""
        with self._changed:
            self._wait(lambda: self._over or not self._held, deadline, "was still being snapshotted")
            self._refuse_when_over()
            self._count += 1
        try:
            yield
        finally:
            with self._changed:
                self._count -= 1
                self._changed.notify_all()

    @contextmanager
    def held_back(self, deadline: float) -> Iterator[None]:
        """Wait for those under way, and let no other begin. Raises as `under_way` does."""
        with self._changed:
            self._wait(lambda: self._over or not self._held, deadline, "was still being snapshotted")
            self._refuse_when_over()
            self._held = True
        try:
            with self._changed:
                self._wait(lambda: not self._count, deadline, "was still at work")
            yield
        finally:
            with self._changed:
                self._held = False
                self._changed.notify_all()

    def end(self) -> tuple[bool, bool]:
        """Let none begin any more. Returns whether nobody had said so, and whether none is under way."""
        with self._changed:
            first, self._over = not self._over, True
            self._changed.notify_all()
            return first, not (self._count or self._held)

    def _refuse_when_over(self) -> None:
        if self._over:
            raise SandboxLost(f"{self._name} was closed")

    def _wait(self, ready: Callable[[], bool], deadline: float, otherwise: str) -> None:
        if not ready() and not self._changed.wait_for(ready, max(0.0, deadline - time.monotonic())):
            raise SandboxUnresponsive(f"{self._name} {otherwise} at the deadline of the next call")
