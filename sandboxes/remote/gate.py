"""Admission of one handle's calls to its sandbox: concurrent, exclusive, or none after the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from ..base import SandboxError, SandboxLost, SandboxUnresponsive

End = Literal["ended already", "unsound", "sound"]
"""Result of `Gate.end`: already ended; a call was in flight or had failed; neither."""


class Gate:
    """A readers-writer lock over a handle's calls that can be closed for good."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._changed = threading.Condition()
        self._count = 0
        self._held = False
        self._failed = False
        self._ended = False

    def end(self) -> End:
        """Admit no further call. Calls in flight go on; calls held back raise `SandboxLost`."""
        with self._changed:
            if self._ended:
                return "ended already"
            self._ended = True
            self._changed.notify_all()
            return "unsound" if self._count or self._held or self._failed else "sound"

    @contextmanager
    def call(self, deadline: float) -> Iterator[None]:
        """Admit a call. Raises `SandboxLost` after the end, `SandboxUnresponsive` at the deadline."""
        with self._changed:
            self._enter(deadline)
            self._count += 1
        try:
            yield
        except SandboxError:
            self._failed = True
            raise
        finally:
            with self._changed:
                self._count -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self, deadline: float) -> Iterator[None]:
        """Admit a call alone: wait for those in flight, hold back new ones. Raises as `call` does."""
        with self._changed:
            self._enter(deadline)
            self._held = True
        try:
            with self._changed:
                self._wait(lambda: not self._count, deadline, "is at work")
            yield
        except SandboxError:
            self._failed = True
            raise
        finally:
            with self._changed:
                self._held = False
                self._changed.notify_all()

    def _enter(self, deadline: float) -> None:
        self._wait(lambda: self._ended or not self._held, deadline, "is being snapshotted")
        if self._ended:
            raise SandboxLost(f"{self._name} was closed")

    def _wait(self, ready: Callable[[], bool], deadline: float, otherwise: str) -> None:
        if not ready() and not self._changed.wait_for(ready, max(0.0, deadline - time.monotonic())):
            raise SandboxUnresponsive(f"{self._name} {otherwise}, and was until the deadline of another call")
