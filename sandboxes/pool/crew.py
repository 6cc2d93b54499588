"""A few threads for work that nobody waits for. They come when there is some and go when there is none."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable


class Crew:
    """Does jobs, `size` at once, in the order they came. A job must not raise."""

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size
        self._changed = threading.Condition()
        self._jobs: deque[Callable[[], None]] = deque()
        self._threads = 0

    def do(self, job: Callable[[], None]) -> None:
        """Have a job done soon. Returns at once."""
        with self._changed:
            self._jobs.append(job)
            if self._threads < self._size:
                thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    return  # none to be had just now; the next job's thread does this one too
                self._threads += 1

    def finish(self, deadline: float) -> bool:
        """Wait until all is done and no thread is left; whether that is so at `deadline`."""
        with self._changed:
            left_s = max(0.0, deadline - time.monotonic())
            return self._changed.wait_for(lambda: not self._threads, timeout=left_s)

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._jobs:
                    self._threads -= 1
                    self._changed.notify_all()
                    return
                job = self._jobs.popleft()
            job()
