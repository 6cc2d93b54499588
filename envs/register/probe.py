"""Try bugs: put each into the code, run the tests that call the module, and see what fails.

Several sandboxes work at once; each is brought back to the unmodified tree after every bug.
"""

from __future__ import annotations

import queue
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from envs.testing import Failure, RunReport, run_tests
from envs.trees import pack
from sandboxes.backend import Backend
from sandboxes.base import (
    Sandbox,
    SandboxError,
    SandboxLost,
    SandboxSpec,
    SandboxUnavailable,
    SandboxUnresponsive,
)

from .discover import SETUP_S, Suite
from .mutate import Mutation
from .project import Project

KEPT = "kept"


@dataclass(frozen=True)
class Probe:
    """What one bug did to the tests."""

    mutation: Mutation
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
    bench: Bench, mutations: Iterable[Mutation], project: Project, suite: Suite
) -> Generator[Probe, None, None]:
    """Try bugs in several sandboxes at once; results come in the bugs' order, however long each takes.

    Raises SandboxUnavailable when sandboxes can no longer be started.
    """
    source = iter(mutations)
    with ThreadPoolExecutor(bench.size, thread_name_prefix="probe") as threads:
        running: list[Future[Probe]] = []
        try:
            while True:
                for mutation in source:
                    running.append(threads.submit(probe, bench, mutation, project, suite))
                    if len(running) > 2 * bench.size:
                        break
                if not running:
                    return
                yield running.pop(0).result()
        finally:
            for each in running:
                each.cancel()


def probe(bench: Bench, mutation: Mutation, project: Project, suite: Suite) -> Probe:
    """Try one bug, twice where it looks right: its failures must not depend on chance.

    First the test files that call the function, which is quick and settles most; then those that call
    anything in the module, which is what a task is graded by.
    """
    close_by, files = suite.files_for(mutation.path, mutation.function), suite.files_for(mutation.path)
    timeout_s = max(10.0, 5 * suite.duration_s)
    data = mutation.apply(project.tree[mutation.path].data)
    try:
        with bench.lend() as sandbox:
            sandbox.write(mutation.path, data, timeout_s=SETUP_S)
            first = run_tests(sandbox, project.tests, close_by, timeout_s=timeout_s)
            reason = _refusal(first, suite)
            if reason:
                return Probe(mutation, reason)
            full = run_tests(sandbox, project.tests, files, timeout_s=timeout_s)
    except (SandboxLost, SandboxUnresponsive, OSError):
        return Probe(mutation, "breaks the sandbox")  # it was replaced; when it cannot be, all ends
    failing = _failing(full, suite)
    passing = tuple(sorted(suite.stable & set(full.ids("passed"))))
    if not passing:
        return Probe(mutation, "every test fails")
    seen = {test for test in failing if test.split("::")[0] in close_by}
    if _refusal(full, suite) or seen != set(_failing(first, suite)):
        return Probe(mutation, "fails by chance")
    failures = {test: full.failures[test] for test in failing if test in full.failures}
    return Probe(mutation, KEPT, files, failing, passing, failures, full.duration_s)


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
