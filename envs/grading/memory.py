"""Verdicts that are known already: equal submissions of one task are graded once.

A policy that learns submits the same patch many times: half of the episodes of a group, and every episode
that changed nothing. A verdict is remembered by the task, the graded files and the attempts on protected
files, and only where it is complete: every listed test passed or failed. A run that was cut off, or that met
interference, is graded anew. Code that passes by chance keeps its first verdict: it cannot be submitted until
it passes.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

from ..tasksets.trees import digest
from ..types import Task, Verdict
from .submission import Submission


class VerdictMemory:
    """Remembers the newest `size` verdicts. Thread-safe; one grading at a time for equal submissions."""

    def __init__(self, size: int = 16_384) -> None:
        self._size = size
        self._known: OrderedDict[str, Verdict] = OrderedDict()
        self._lock = threading.Lock()
        self._running: dict[str, threading.Lock] = {}

    def verdict(self, submission: Submission, task: Task, grade: Callable[[], Verdict]) -> Verdict:
        """Return the known verdict, with a duration of 0, or that of `grade`, whose errors are passed on."""
        key = _key(submission, task)
        with self._lock:
            turn = self._running.setdefault(key, threading.Lock())
        with turn:
            with self._lock:
                known = self._known.get(key)
            if known is not None:
                return replace(known, duration_s=0.0)
            try:
                graded = grade()
            finally:
                with self._lock:
                    self._running.pop(key, None)
            if not graded.missing and not graded.tampered:
                with self._lock:
                    self._known[key] = graded
                    while len(self._known) > self._size:
                        self._known.popitem(last=False)
            return graded


def _key(submission: Submission, task: Task) -> str:
    parts = (task.hash, digest(submission.tree), submission.patch, *submission.tampered)
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()
