"""SIGINT and SIGTERM as a wish to stop: the loop notices, writes a checkpoint, and leaves.

A second signal ends the process at once, the way it would have without this.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self


class Interrupted(Exception):
    """Somebody asked for an end."""


class Interruption:
    """While entered, remembers that a signal came. Outside the main thread it only listens to `request`."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._before: dict[int, Any] = {}

    def request(self) -> None:
        """Ask for an end, as a signal would."""
        self._asked.set()

    def requested(self) -> bool:
        """Whether somebody asked."""
        return self._asked.is_set()

    def check(self) -> None:
        """Raise `Interrupted` when somebody asked."""
        if self.requested():
            raise Interrupted("interrupted")

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.request()
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
