"""SIGINT and SIGTERM as a request to stop: the loop notices, writes a checkpoint, and leaves.

A second signal has its default effect and ends the process at once. A signal that the process ignores stays
ignored: the command decides which signals to ignore (`daythree.cli.app.take_interrupts`).
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self


class Interrupted(Exception):
    """The run was asked to stop."""


class Interruption:
    """While entered, records SIGINT and SIGTERM. Outside the main thread only `request` has an effect."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._before: dict[int, Any] = {}

    def request(self) -> None:
        """Ask the run to stop, as a signal would."""
        self._asked.set()

    def requested(self) -> bool:
        """Whether the run was asked to stop."""
        return self._asked.is_set()

    def check(self) -> None:
        """Raise `Interrupted` when the run was asked to stop."""
        if self.requested():
            raise Interrupted("interrupted")

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
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
