"""Calls into a sandbox, and moments without any."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..base import SandboxUnresponsive


class Gate:
    """Lets calls into a sandbox side by side, and holds them back while its disks are changed."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0
        self._held = False

    @contextmanager
    def under_way(self, deadline: float, name: str) -> Iterator[None]:
        """Around a call. Raises `SandboxUnresponsive` at the deadline."""
        with self._changed:
            self._wait(lambda: not self._held, deadline, f"{name} is being snapshotted")
            self._count += 1
        try:
            yield
        finally:
            with self._changed:
                self._count -= 1
                self._changed.notify_all()

    @contextmanager
    def held_back(self, deadline: float, name: str) -> Iterator[None]:
        """Wait for those under way, and let no other begin. Raises `SandboxUnresponsive` at the deadline."""
        with self._changed:
            self._wait(lambda: not self._held, deadline, f"{name} is being snapshotted")
            self._held = True
        try:
            with self._changed:
                self._wait(lambda: not self._count, deadline, f"{name} is at work")
            yield
        finally:
            with self._changed:
                self._held = False
                self._changed.notify_all()

    def _wait(self, ready: Callable[[], bool], deadline: float, otherwise: str) -> None:
        if not ready() and not self._changed.wait_for(ready, max(0.0, deadline - time.monotonic())):
            raise SandboxUnresponsive(f"{otherwise}, and was until the deadline of another call")
