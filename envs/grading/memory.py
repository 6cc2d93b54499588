"""A memory of verdicts: equal submissions of one task are graded once per process.

    memory = VerdictMemory()
    envs = [CodingEnv(tasksets, backend=backend, verdict_memory=memory) for _ in range(8)]

Only repeatable verdicts are remembered (`grade.Grading`): no tampering, no run that was cut off, no test
that changed its outcome. Chance remains: each grading draws secret sentinel tests anew, which a cheat may
survive once, and a machine under load may fail an honest submission. So a share of the remembered verdicts,
drawn in secret, is graded again; a submission whose second verdict differs is graded every time from then on.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from sandboxes.backend import Backend

from ..tasksets.taskset import TaskSet
from ..tasksets.trees import Tree
from ..types import Task, Verdict
from .grade import Grading, grade_repeatably
from .run import SETUP_S
from .submission import Submission

SIZE = 2048
"""Submissions that are remembered, the latest used; a verdict holds at most 64 kB of log."""
RECHECK = 16
"""One remembered verdict in this many is graded again."""
RUNS = 8
"""Test runs of the slowest grading: the longest wait for another thread that grades the same submission."""


@dataclass(frozen=True)
class _Known:
    """The knowledge about a submission: its verdict, or None when its verdicts are not repeatable."""

    verdict: Verdict | None
    certain: bool = False
    """Whether registration has proven this verdict too: that of the unchanged tree."""


class VerdictMemory:
    """Grades submissions, and remembers their verdicts. Thread-safe; shared by the environments of a process.

    Equal submissions that are handed in at the same time are graded once: the others wait for that grading.
    """

    def __init__(
        self,
        size: int = SIZE,
        *,
        recheck: int = RECHECK,
        draw: Callable[[int], int] = secrets.randbelow,
    ) -> None:
        """Remember at most `size` submissions, and grade one remembered verdict in `recheck` again.

        It is the one for which `draw(recheck)` gives 0.
        """
        assert size > 0 and recheck > 0, "a memory has a size, and a share of verdicts to grade again"
        self._size, self._recheck, self._draw = size, recheck, draw
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._running: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._known)

    def grade(self, submission: Submission, taskset: TaskSet, task: Task, backend: Backend) -> Verdict:
        """Return the remembered verdict, with `remembered` set, or grade as `grade.grade` does.

        Only `remembered` and `duration_s` tell a remembered verdict from the first. Raises SandboxError.
        """
        started = time.monotonic()
        key = content_key(submission, taskset, task, backend)
        known, mine = self._find(key, started + RUNS * (task.limits.test_s + SETUP_S))
        if known is not None and known.verdict is not None and not self._draws_recheck(known):
            return replace(known.verdict, remembered=True, duration_s=time.monotonic() - started)
        try:
            grading = grade_repeatably(submission, taskset, task, backend)
            self._remember(key, grading, certain=_as_registered(submission, grading, taskset, task))
            return grading.verdict
        finally:
            if mine is not None:
                with self._lock:
                    del self._running[key]
                mine.set()

    def _find(self, key: str, deadline: float) -> tuple[_Known | None, threading.Event | None]:
        """Return the knowledge about a key, after any grading of that key under way has ended.

        Without knowledge, the event is returned that the caller sets once its own grading has ended. Neither
        is returned at the deadline.
        """
        while True:
            with self._lock:
                if known := self._known.get(key):
                    self._known.move_to_end(key)
                    return known, None
                running = self._running.get(key)
                if running is None:
                    self._running[key] = mine = threading.Event()
                    return None, mine
            if not running.wait(max(0.0, deadline - time.monotonic())):
                return None, None

    def _draws_recheck(self, known: _Known) -> bool:
        return not known.certain and self._draw(self._recheck) == 0

    def _remember(self, key: str, grading: Grading, *, certain: bool) -> None:
        """Store a grading; None in place of a verdict that the next grading may not come to, for good."""
        verdict = grading.verdict if grading.repeatable else None
        with self._lock:
            before = self._known.get(key, _Known(verdict)).verdict
            if before is None or verdict is None or _outcome(before) != _outcome(verdict):
                verdict = None
            self._known[key] = _Known(verdict, certain)
            self._known.move_to_end(key)
            while len(self._known) > self._size:
                self._known.popitem(last=False)


def content_key(submission: Submission, taskset: TaskSet, task: Task, backend: Backend) -> str:
    """Digest everything that a grading sees: set, task, backend, and each file that differs from the base.

    A patch alone would not do: execute bits and files that are no text do not show in it.
    """
    base, tree = taskset.base_tree(task), submission.tree
    total = hashlib.sha256(repr((taskset.digest, task.hash, backend.name)).encode())
    for path in _changed(base, tree):
        entry = tree.get(path)
        row = (path, entry.executable, entry.sha256) if entry is not None else (path,)
        total.update(f"{row!r}\n".encode())
    total.update(submission.patch.encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def _changed(base: Tree, tree: Tree) -> list[str]:
    return sorted(path for path in base.keys() | tree.keys() if base.get(path) != tree.get(path))


def _outcome(verdict: Verdict) -> tuple[object, ...]:
    return verdict.resolved, verdict.passed, verdict.failed, verdict.missing, verdict.tampered


def _as_registered(submission: Submission, grading: Grading, taskset: TaskSet, task: Task) -> bool:
    """Whether this is the verdict of the unchanged tree, and the one that registration proved."""
    unchanged = not _changed(taskset.base_tree(task), submission.tree)
    return unchanged and {*grading.verdict.passed} == {*task.pass_to_pass}
