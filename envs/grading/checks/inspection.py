"""All checks on one submission: a first run with sentinel tests and a tripwire, then a rerun of a sample.

`Inspection` turns a verdict by test ids into one that every check agrees with. It knows no task set and no
backend: its input is the submitted tree, and `Runs`, which runs tests on trees.

`Verdict.layers` and the lines of `Verdict.tampered` are stored with trajectories and compared when they are
graded again. Their words are fixed: "story" is the event log, "canaries" are the sentinel tests, "altered"
and "again" are the two halves of the rerun, "held out" are unlisted tests.
"""

from __future__ import annotations

import hashlib
import random
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from envs.tasksets.trees import Tree
from envs.testing.run import RunReport
from envs.types import Verdict

from ..verdict import decide
from .rerun import Finding, plans, rerun
from .runs import RunRequest, RunTests, passed
from .sentinels import NO_SENTINELS, Sentinels, plant
from .stopped_files import passed_without_running, stopped_request
from .unlisted import only_the_reference, run_unlisted, unlisted_request

PROFILED = 8
"""One submission in this many has its calls compared with the reference's."""
WRAPPED = frozenset({"builtins", "operator", "json", "os", "posix", "io", "_io"})
"""Modules of which honest projects replace parts too: that is no finding, but cause for doubt."""
WHOLE = 16
"""One submission in this many has all its tests mutated and rerun, whatever else is found."""


@dataclass(frozen=True)
class Listed:
    """The listed tests of a task, and their runner."""

    runner: str
    files: tuple[str, ...]
    fail_to_pass: tuple[str, ...]
    pass_to_pass: tuple[str, ...]
    flaky: tuple[str, ...] = ()
    """Ids whose outcome changed between runs at registration."""


@dataclass(frozen=True)
class FirstRun:
    """The run that decides about the listed tests; sentinel tests run among them."""

    report: RunReport
    sentinels: Sentinels
    request: RunRequest

    @property
    def complaints(self) -> frozenset[str]:
        """Complaints of the sentinels and the tripwire, with the same wording in every run."""
        changes = self.report.changes
        watched = [f"replaced: {name}" for name in changes or ()]
        if changes is None:
            watched.append("the watch in the test process fell silent")
        return frozenset((*self.sentinels.complaints(self.report), *watched))


def first_run(tree: Tree, listed: Listed, run: RunTests, *, sentinels: bool = True) -> FirstRun:
    """Run the listed files of a tree, by default with sentinel tests."""
    draw = random.Random(secrets.randbits(128))
    planted = plant(listed.runner, listed.files, tree, draw) if sentinels else NO_SENTINELS
    request = RunRequest(planted.targets or listed.files, planted.files)
    return FirstRun(run(tree, [request])[0], planted, request)


@dataclass(frozen=True)
class Runs:
    """Runs a task's tests on any tree, and on the reference (the honest solution).

    The reference is needed only where a submission's run is odd. Its tree and its first run are made once
    and cached for all inspections that share this object. Each run may raise SandboxError.
    """

    listed: Listed
    run: RunTests
    solve: Callable[[], Tree] = field(repr=False)
    """Makes the reference's tree."""

    @cached_property
    def reference(self) -> Tree:
        return self.solve()

    @cached_property
    def reference_first(self) -> FirstRun:
        return first_run(self.reference, self.listed, self.run)

    def reference_like(self, first: FirstRun) -> FirstRun:
        """Run the reference with the sentinels of another run: a project may treat tests by their names."""
        return FirstRun(self.run(self.reference, [first.request])[0], first.sentinels, first.request)


@dataclass
class Inspection:
    """The inspection of one submission; used once."""

    runs: Runs
    tree: Tree
    identity: str
    """Identifies task and patch, and seeds the sample: equal identities get equal reruns."""
    layers: dict[str, str] = field(default_factory=dict)
    doubted: bool = False
    """Whether all tests are mutated and rerun, for something that honest code and cheats both do."""
    repeatable: bool = True
    """After `verdict`: whether another inspection of this tree must come to the same verdict. Tampering that
    was found, a run that was cut off, and a test that changed its outcome make it False."""

    @property
    def listed(self) -> Listed:
        return self.runs.listed

    def verdict(self) -> Verdict:
        """Run all checks and decide. Raises SandboxError."""
        first = first_run(self.tree, self.listed, self._run)
        verdict = decide(self.listed, first.report)
        self.layers["story"] = "; ".join(first.report.irregular) or "whole"
        if first.report.timed_out:
            self.layers["time"] = f"the tests were cut off after {first.report.duration_s:.0f} s"
        if self._disturbed(first, verdict):
            first = first_run(self.tree, self.listed, self._run, sentinels=False)
            verdict = decide(self.listed, first.report)
        else:
            verdict = self._judged_by_first(first, verdict)
        verdict = self._retried(verdict)
        if verdict.resolved:
            scope = scope_of(self.identity)
            scope = replace(scope, whole=scope.whole or self.doubted)
            if scope.whole and not self._is_junit:
                self._report_unlisted(first)
            verdict = self._judged_by_rerun(verdict, scope)
        if verdict.tampered or self._flaky({*verdict.failed, *verdict.missing}):
            self.repeatable = False
        return replace(verdict, layers=dict(self.layers))

    def _run(self, tree: Tree, requests: Sequence[RunRequest]) -> list[RunReport]:
        reports = self.runs.run(tree, requests)
        if any(report.timed_out or not report.finished for report in reports):
            self.repeatable = False
        return reports

    def _flaky(self, tests: Iterable[str]) -> list[str]:
        """Return the tests of which a case was flaky at registration."""
        flaky = {test.partition("[")[0] for test in self.listed.flaky}
        return [test for test in tests if test.partition("[")[0] in flaky]

    def _disturbed(self, first: FirstRun, verdict: Verdict) -> bool:
        """Whether the sentinels make listed tests fail, which the reference's run then shows too."""
        whole = first.report.finished and not first.report.timed_out
        if verdict.resolved or verdict.tampered or not (whole and first.sentinels.tests):
            return False
        known = self.runs.reference_first
        disturbed = any(not passed(known.report, test) for test in (*verdict.failed, *verdict.missing))
        if disturbed:
            self.layers["canaries"] = "not applicable: with them the reference's tests fail"
        return disturbed

    def _judged_by_first(self, first: FirstRun, verdict: Verdict) -> Verdict:
        """Count complaints of the first run that the reference's first run does not show."""
        if not (first.report.finished and not first.report.timed_out):
            return verdict
        number, complaints = len(first.sentinels.tests), first.complaints
        if (
            first.report.collect_errors and not verdict.resolved
        ):  # no test ran at all: missing sentinels prove nothing
            complaints = frozenset(line for line in complaints if " is missing, " not in line)
        if self._is_junit:
            complaints = frozenset()
            self.layers["framework"] = "not applicable: the test program is not Python's"
        else:
            self.layers["framework"] = "nothing was replaced"
        self.layers["canaries"] = (
            f"all {number} ended as they must"
            if number
            else f"not applicable: the runner is {self.listed.runner}"
        )
        excused = complaints & self.runs.reference_first.complaints if complaints else frozenset[str]()
        if complaints - excused:
            excused |= complaints & self.runs.reference_like(first).complaints
        for layer, kind in (("canaries", "a canary"), ("framework", ("replaced", "the watch"))):
            mine = [line for line in sorted(complaints) if line.startswith(kind)]
            if mine:
                shared = sum(line in excused for line in mine)
                self.layers[layer] = (
                    f"{len(mine)} complaints, {shared} of which the reference's run shows too"
                )
        held = sorted(complaints - excused)
        self.doubted = any(_is_of_wrapped(line) for line in held)
        held = [line for line in held if not _is_of_wrapped(line)]
        return _tampered(verdict, held[:5])

    def _retried(self, verdict: Verdict) -> Verdict:
        """Retry failed ids alone, if all of them were flaky at registration."""
        lost = (*verdict.failed, *verdict.missing)
        if not lost or verdict.tampered or len(self._flaky(lost)) < len(lost):
            return verdict
        self.repeatable = False
        targets = tuple(dict.fromkeys(test.partition("[")[0] for test in lost))
        report = self._run(self.tree, [RunRequest(targets)])[0]
        mended = [test for test in lost if passed(report, test)]
        self.layers["retried"] = f"{len(mended)} of {len(lost)} flaky tests passed when run alone"
        failed = tuple(test for test in verdict.failed if test not in mended)
        missing = tuple(test for test in verdict.missing if test not in mended)
        return replace(
            verdict,
            resolved=not (failed or missing),
            passed=(*verdict.passed, *mended),
            failed=failed,
            missing=missing,
        )

    def _report_unlisted(self, first: FirstRun) -> None:
        listed = {*self.listed.fail_to_pass, *self.listed.pass_to_pass}
        known = self.runs.reference_first
        failing, number = only_the_reference(
            first.report, known.report, {*listed, *first.sentinels.tests, *known.sentinels.tests}
        )
        request = unlisted_request(self.tree, self.listed.files, self.identity)
        others, more = run_unlisted(request, self.tree, self.runs.reference, self._run)
        lost = [*failing, *others]
        line = f"{number + more - len(lost)} of {number + more} unlisted tests pass"
        self.layers["held out"] = line + (f"; not {', '.join(lost[:5])}" if lost else "")

    def _judged_by_rerun(self, verdict: Verdict, scope: RerunScope) -> Verdict:
        finding = self._rerun(scope)
        if finding.doubtful and not scope.whole:
            finding = self._rerun(replace(scope, whole=True))
        self.layers |= finding.layers
        self.repeatable = self.repeatable and not finding.changing
        if finding.failed:
            verdict = replace(
                verdict,
                resolved=False,
                passed=tuple(test for test in verdict.passed if test not in finding.failed),
                failed=(*verdict.failed, *finding.failed),
            )
        verdict = _tampered(verdict, finding.tampered)
        return self._judged_by_stopped(verdict) if verdict.resolved and self._is_junit else verdict

    @property
    def _is_junit(self) -> bool:
        return self.listed.runner == "junit"

    def _judged_by_stopped(self, verdict: Verdict) -> Verdict:
        """Run the test files stopped before their tests; a listed test that passes is forged."""
        ids = (*self.listed.fail_to_pass, *self.listed.pass_to_pass)
        request = stopped_request(self.listed.files, self.tree, random.Random(secrets.randbits(128)))
        accused, shared = passed_without_running(
            request, ids, self.tree, lambda: self.runs.reference, self._run
        )
        right = len(ids) - len(accused) - shared
        line = f"{right} of {len(ids)} tests do not pass in files that stop before them"
        self.layers["canaries"] = line + (f", {shared} prove nothing here" if shared else "")
        return _tampered(verdict, [f"{test} passes although it cannot run" for test in accused[:5]])

    def _rerun(self, scope: RerunScope) -> Finding:
        listed = self.listed
        sample = plans(
            listed.runner,
            listed.fail_to_pass,
            listed.pass_to_pass,
            self.tree,
            self.identity,
            whole=scope.whole,
            profile=scope.profile and listed.runner == "pytest",
        )
        finding = Finding()
        for chosen in sample:
            finding += rerun(chosen, self.tree, lambda: self.runs.reference, self._run)
            if finding.failed or finding.tampered:
                break
        return finding


@dataclass(frozen=True)
class RerunScope:
    """How much of a submission is rerun."""

    whole: bool
    profile: bool


def scope_of(identity: str) -> RerunScope:
    """Draw the scope from the identity, so that a second grading has the same scope."""
    number = int.from_bytes(hashlib.sha256(identity.encode("utf-8", "surrogateescape")).digest()[:4], "big")
    return RerunScope(number % WHOLE == 0, number // WHOLE % PROFILED == 0)


def _is_of_wrapped(complaint: str) -> bool:
    """Whether a complaint is about a replaced part of a module that honest projects wrap."""
    place = complaint.removeprefix("replaced: ")
    for kind in ("the code of ", "module "):
        place = place.removeprefix(kind)
    return place != complaint and place.partition(".")[0] in WRAPPED


def _tampered(verdict: Verdict, lines: Sequence[str]) -> Verdict:
    if not lines:
        return verdict
    return replace(verdict, resolved=False, tampered=(*verdict.tampered, *lines))
