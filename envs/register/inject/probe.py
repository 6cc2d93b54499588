"""Try bugs: put each into the code, run the tests that are near it, and see what fails.

Several sandboxes work at once; each is brought back to the unmodified tree after every bug.
"""

from __future__ import annotations

import queue
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations

from envs.tasksets.trees import pack
from envs.testing.run import Failure, RunReport, run_tests
from sandboxes.backend import Backend
from sandboxes.base import (
    Sandbox,
    SandboxError,
    SandboxLost,
    SandboxSpec,
    SandboxUnavailable,
    SandboxUnresponsive,
)

from ..project.project import Project
from ..runtime.discover import SETUP_S, Suite
from .bugs import Bug

KEPT = "kept"


@dataclass(frozen=True)
class Probe:
    """What one bug did to the tests."""

    bug: Bug
    result: str
    """`kept`, or why the bug makes no task."""
    test_files: tuple[str, ...] = ()
    failing: tuple[str, ...] = ()
    passing: tuple[str, ...] = ()
    failures: Mapping[str, Failure] = field(default_factory=dict)
    duration_s: float = 0.0
    """One run of `test_files`."""


class Bench:
    """Sandboxes that hold the unmodified tree, lent to one bug at a time."""

    def __init__(self, backend: Backend, spec: SandboxSpec, project: Project, *, size: int) -> None:
        self.size = size
        self._backend, self._spec, self._project = backend, spec, project
        self._known = {path: entry.sha256 for path, entry in project.tree.items()}
        self._idle: queue.SimpleQueue[Sandbox] = queue.SimpleQueue()
        self._open: list[Sandbox] = []
        try:
            for _ in range(size):
                self._idle.put(self._opened())
        except BaseException:
            self.close()
            raise

    @contextmanager
    def lend(self) -> Iterator[Sandbox]:
        """Give a sandbox with the unmodified tree. One that fails is replaced, and the error goes on.

        Raises SandboxUnavailable when it cannot be replaced.
        """
        sandbox = self._idle.get()
        try:
            yield sandbox
            self._restore(sandbox)
        except (SandboxError, OSError):
            sandbox.close()
            sandbox = self._opened()
            raise
        finally:
            self._idle.put(sandbox)

    def close(self) -> None:
        """End every sandbox. Safe to call twice."""
        while self._open:
            self._open.pop().close()

    def _opened(self) -> Sandbox:
        try:
            sandbox = self._backend.open(self._spec, timeout_s=SETUP_S)
            self._open.append(sandbox)
            sandbox.unpack(pack(self._project.tree), ".", timeout_s=SETUP_S)
        except SandboxError as error:
            raise SandboxUnavailable(str(error)) from error
        return sandbox

    def _restore(self, sandbox: Sandbox) -> None:
        """Undo what a bug and its tests did to the files."""
        changes = sandbox.changes(".", self._known, timeout_s=SETUP_S)
        tree = self._project.tree
        added = [path for path in {*changes.written, *changes.skipped} if path not in tree]
        lost = {
            path: tree[path] for path in {*changes.written, *changes.removed, *changes.skipped} & tree.keys()
        }
        if added:
            sandbox.exec(["rm", "-rf", "--", *added], timeout_s=SETUP_S)
        if lost:
            sandbox.unpack(pack(lost), ".", timeout_s=SETUP_S)


def probe_all(
    bench: Bench, bugs: Iterable[Bug], project: Project, suite: Suite
) -> Generator[Probe, None, None]:
    """Try bugs in several sandboxes at once; results come in the bugs' order, however long each takes.

    Raises SandboxUnavailable when sandboxes can no longer be started.
    """
    source = iter(bugs)
    with ThreadPoolExecutor(bench.size, thread_name_prefix="probe") as threads:
        running: list[Future[Probe]] = []
        try:
            while True:
                for bug in source:
                    running.append(threads.submit(probe, bench, bug, project, suite))
                    if len(running) > 2 * bench.size:
                        break
                if not running:
                    return
                yield running.pop(0).result()
        finally:
            for each in running:
                each.cancel()


def probe(bench: Bench, bug: Bug, project: Project, suite: Suite) -> Probe:
    """Try one bug. Of several edits none may be idle: some test that fails with all of them must fail
    whichever are left in, so that nothing less than undoing each of them is a fix.
    """
    trial = _Trial(bench, project, suite)
    try:
        found = trial.whole(bug)
        if found.result == KEPT and any(trial.is_silent(part, found.failing) for part in _parts(bug)):
            return Probe(bug, "one of its edits is idle")
    except (SandboxLost, SandboxUnresponsive, OSError):
        return Probe(bug, "breaks the sandbox")  # it was replaced; when it cannot be, all ends
    return found


@dataclass(frozen=True)
class _Trial:
    """Runs of tests with a bug in the code."""

    bench: Bench
    project: Project
    suite: Suite

    def whole(self, bug: Bug) -> Probe:
        """Run the tests twice where it looks right: its failures must not depend on chance.

        First the test files that call its functions, which is quick and settles most; then all that a task
        is graded by.
        """
        suite = self.suite
        close_by, files = suite.nearest_files(bug.places), suite.graded_files(bug.places)
        with self.bench.lend() as sandbox:
            first = self._run(sandbox, bug, close_by)
            reason = _refusal(first, suite)
            if reason:
                return Probe(bug, reason)
            full = self._run(sandbox, bug, files)
        failing = _failing(full, suite)
        passing = tuple(sorted(suite.stable & set(full.ids("passed"))))
        if not passing:
            return Probe(bug, "every test fails")
        seen = {test for test in failing if test.split("::")[0] in close_by}
        if _refusal(full, suite) or seen != set(_failing(first, suite)):
            return Probe(bug, "fails by chance")
        failures = {test: full.failures[test] for test in failing if test in full.failures}
        return Probe(bug, KEPT, files, failing, passing, failures, full.duration_s)

    def is_silent(self, bug: Bug, tests: tuple[str, ...]) -> bool:
        """Whether none of these tests fails."""
        with self.bench.lend() as sandbox:
            report = self._run(sandbox, bug, self.suite.nearest_files(bug.places))
        return set(tests).isdisjoint(_failing(report, self.suite))

    def _run(self, sandbox: Sandbox, bug: Bug, files: tuple[str, ...]) -> RunReport:
        for path, entry in bug.files(self.project.tree).items():
            sandbox.write(path, entry.data, timeout_s=SETUP_S)
        return run_tests(sandbox, self.project.tests, files, timeout_s=max(10.0, 5 * self.suite.duration_s))


def _parts(bug: Bug) -> Iterator[Bug]:
    """Every bug that is some of a bug's edits, but not all."""
    for size in range(1, len(bug.edits)):
        for edits in combinations(bug.edits, size):
            yield bug.only(edits)


def _refusal(report: RunReport, suite: Suite) -> str:
    """Say why a run makes no task, or return an empty string."""
    if report.timed_out:
        return "timeout"
    if report.collect_errors:
        return "breaks the import"
    if not report.finished:
        return "ends the test run"
    if not _failing(report, suite):
        return "no test notices"
    return ""


def _failing(report: RunReport, suite: Suite) -> tuple[str, ...]:
    return tuple(sorted(suite.stable & {*report.ids("failed"), *report.ids("error")}))
