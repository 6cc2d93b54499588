"""Try bugs: put a bug into the code, run the nearest tests, and record the failures.

Every trial has its own sandbox, opened with the unmodified tree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations

from envs.tasksets.trees import digest, pack
from envs.testing.run import Failure, RunReport, run_tests
from sandboxes.backend import Backend
from sandboxes.base import (
    Content,
    Sandbox,
    SandboxError,
    SandboxLost,
    SandboxSpec,
    SandboxUnavailable,
    SandboxUnresponsive,
)

from ..project.project import Project
from ..proof.hidden import VISIBLE
from ..runtime.discover import SETUP_S, Suite
from .bugs import Bug
from .hiding import hidden_with

KEPT = "kept"


@dataclass(frozen=True)
class Probe:
    """Effect of one bug on the tests."""

    bug: Bug
    result: str
    """`kept`, or why the bug makes no task."""
    test_files: tuple[str, ...] = ()
    failing: tuple[str, ...] = ()
    passing: tuple[str, ...] = ()
    failures: Mapping[str, Failure] = field(default_factory=dict)
    duration_s: float = 0.0
    """Duration of one run of `test_files`."""


class Prober:
    """Tries bugs of one project. Methods may be called from several threads."""

    def __init__(self, project: Project, suite: Suite, spec: SandboxSpec) -> None:
        self._project, self._suite, self._spec = project, suite, spec
        tree = project.tree
        self._content = Content(f"unmodified-{digest(tree)}", lambda: pack(tree))

    def probe(self, backend: Backend, bug: Bug) -> Probe:
        """Try one bug.

        A bug of several edits must have no idle edit: every proper subset of the edits must fail a test that
        fails with the whole bug, so that a fix has to undo all edits.
        Raises SandboxUnavailable when sandboxes can no longer be started.
        """
        try:
            found = self._whole(backend, bug)
            if found.result == KEPT and any(
                self._is_silent(backend, part, found.failing) for part in _parts(bug)
            ):
                return Probe(bug, "one of its edits is idle")
        except (SandboxLost, SandboxUnresponsive, OSError):
            return Probe(bug, "breaks the sandbox")
        return found

    def _whole(self, backend: Backend, bug: Bug) -> Probe:
        """Run the tests twice if the first run is promising, because the failures must not depend on chance.

        The first run takes the test files that call the mutated functions, which is quick and settles most
        bugs; the second run takes all files that a task is graded by.
        """
        suite = self._suite
        close_by, files = suite.nearest_files(bug.places), suite.graded_files(bug.places)
        with self._opened(backend) as sandbox:
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
        if not hidden_with(self._project.tree, bug, failing).tests:
            return Probe(bug, VISIBLE)
        failures = {test: full.failures[test] for test in failing if test in full.failures}
        return Probe(bug, KEPT, files, failing, passing, failures, full.duration_s)

    def _is_silent(self, backend: Backend, bug: Bug, tests: tuple[str, ...]) -> bool:
        """Return whether none of these tests fails with the bug."""
        with self._opened(backend) as sandbox:
            report = self._run(sandbox, bug, self._suite.nearest_files(bug.places))
        return set(tests).isdisjoint(_failing(report, self._suite))

    def _run(self, sandbox: Sandbox, bug: Bug, files: tuple[str, ...]) -> RunReport:
        for path, entry in bug.files(self._project.tree).items():
            sandbox.write(path, entry.data, timeout_s=SETUP_S)
        timeout_s = max(10.0, 5 * self._suite.duration_s)
        return run_tests(sandbox, self._project.tests, files, timeout_s=timeout_s)

    @contextmanager
    def _opened(self, backend: Backend) -> Iterator[Sandbox]:
        """Open a sandbox with the unmodified tree. Raises SandboxUnavailable if opening fails in any way."""
        try:
            sandbox = backend.open(self._spec, timeout_s=SETUP_S, content=self._content)
        except SandboxError as error:
            raise SandboxUnavailable(str(error)) from error
        try:
            yield sandbox
        finally:
            sandbox.close()


def _parts(bug: Bug) -> Iterator[Bug]:
    """Yield a bug for every proper subset of a bug's edits."""
    for size in range(1, len(bug.edits)):
        for edits in combinations(bug.edits, size):
            yield bug.only(edits)


def _refusal(report: RunReport, suite: Suite) -> str:
    """Return why a run makes no task, or an empty string."""
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
