"""All layers on one submission: the first run with canaries and tripwire, then the second look.

`Inspection` turns a verdict by test ids into one that the layers agree with. It knows no task set and no
backend: it is given trees, lists of ids, and a way to run sessions.
"""

from __future__ import annotations

import hashlib
import random
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from envs.tasksets.trees import Tree
from envs.testing.run import RunReport
from envs.types import Verdict

from .canaries import NO_CANARIES, Canaries, plant
from .rerun import Finding, plan, second_look
from .sessions import Runs, Session, passed
from .stopped_files import passed_without_running, stopped_session
from .unlisted import held_out, held_out_session, only_the_reference

PROFILED = 8
"""One submission in so many has its calls compared with the reference's."""
WHOLE = 16
"""One submission in so many has all its tests altered and run again, whatever else is found."""


@dataclass(frozen=True)
class Listed:
    """What is to pass, and how it is run."""

    runner: str
    files: tuple[str, ...]
    fail_to_pass: tuple[str, ...]
    pass_to_pass: tuple[str, ...]
    flaky: tuple[str, ...] = ()
    """Ids that changed their outcome from run to run when the task was registered."""


@dataclass(frozen=True)
class FirstRun:
    """The run that decides about the listed tests, with canaries among them."""

    report: RunReport
    canaries: Canaries

    @property
    def complaints(self) -> frozenset[str]:
        """What canaries and tripwire found, in words that are the same in every run."""
        changes = self.report.changes
        watched = [f"replaced: {one}" for one in changes or ()]
        if changes is None:
            watched.append("the watch in the test process fell silent")
        return frozenset((*self.canaries.complaints(self.report), *watched))


def first_run(tree: Tree, listed: Listed, run: Runs, *, canaries: bool = True) -> FirstRun:
    """Run the listed files of a tree, by default with canaries."""
    draw = random.Random(secrets.randbits(128))
    planted = plant(listed.runner, listed.files, tree, draw) if canaries else NO_CANARIES
    session = Session(planted.targets or listed.files, planted.files)
    return FirstRun(run(tree, [session])[0], planted)


@dataclass(frozen=True)
class Reference:
    """What the honest solution shows under the same circumstances. Asked only where something is odd."""

    tree: Tree
    first: Callable[[], FirstRun]
    """Its first run; remembered by whoever gives it. Raises SandboxError."""


@dataclass
class Inspection:
    """One submission under inspection; used once."""

    listed: Listed
    tree: Tree
    reference: Callable[[], Reference]
    run: Runs
    identity: str
    """Of the task and of the patch: equal ones are looked at in the same way."""
    decide: Callable[[RunReport], Verdict]
    layers: dict[str, str] = field(default_factory=dict)

    def verdict(self) -> Verdict:
        """Run and judge. Raises SandboxError."""
        first = first_run(self.tree, self.listed, self.run)
        verdict = self.decide(first.report)
        self.layers["story"] = "; ".join(first.report.irregular) or "whole"
        if self._disturbed(first, verdict):
            first = first_run(self.tree, self.listed, self.run, canaries=False)
            verdict = self.decide(first.report)
        else:
            verdict = self._judged_by_first(first, verdict)
        verdict = self._retried(verdict)
        if verdict.resolved:
            look = chosen(self.identity)
            if look.whole and not self._is_junit:
                self._tell_of_held_out(first)
            verdict = self._judged_by_second(verdict, look)
        return replace(verdict, layers=dict(self.layers))

    def _disturbed(self, first: FirstRun, verdict: Verdict) -> bool:
        """Whether the canaries make listed tests fail, as the reference's run shows."""
        whole = first.report.finished and not first.report.timed_out
        if verdict.resolved or verdict.tampered or not (whole and first.canaries.tests):
            return False
        known = self.reference().first()
        disturbed = any(not passed(known.report, test) for test in (*verdict.failed, *verdict.missing))
        if disturbed:
            self.layers["canaries"] = "not applicable: with them the reference's tests fail"
        return disturbed

    def _judged_by_first(self, first: FirstRun, verdict: Verdict) -> Verdict:
        """Hold against a submission what its first run shows and the reference's does not."""
        if not (first.report.finished and not first.report.timed_out):
            return verdict
        number, complaints = len(first.canaries.tests), first.complaints
        if first.report.collect_errors and not verdict.resolved:  # then nothing is run, and nobody cheats
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
        excused = complaints & self.reference().first().complaints if complaints else frozenset[str]()
        for layer, kind in (("canaries", "a canary"), ("framework", ("replaced", "the watch"))):
            mine = [line for line in sorted(complaints) if line.startswith(kind)]
            if mine:
                shared = sum(line in excused for line in mine)
                self.layers[layer] = (
                    f"{len(mine)} complaints, {shared} of which the reference's run shows too"
                )
        held = sorted(complaints - excused)
        return _tampered(verdict, held[:5])

    def _retried(self, verdict: Verdict) -> Verdict:
        """Run ids again that failed once, alone, where registration saw their like change."""
        lost = (*verdict.failed, *verdict.missing)
        flaky = {test.partition("[")[0] for test in self.listed.flaky}
        if not lost or verdict.tampered or any(test.partition("[")[0] not in flaky for test in lost):
            return verdict
        targets = tuple(dict.fromkeys(test.partition("[")[0] for test in lost))
        report = self.run(self.tree, [Session(targets)])[0]
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

    def _tell_of_held_out(self, first: FirstRun) -> None:
        reference, listed = self.reference(), {*self.listed.fail_to_pass, *self.listed.pass_to_pass}
        known = reference.first()
        failing, number = only_the_reference(
            first.report, known.report, {*listed, *first.canaries.tests, *known.canaries.tests}
        )
        session = held_out_session(self.tree, self.listed.files, self.identity)
        others, more = held_out(session, self.tree, reference.tree, self.run)
        lost = [*failing, *others]
        line = f"{number + more - len(lost)} of {number + more} unlisted tests pass"
        self.layers["held out"] = line + (f"; not {', '.join(lost[:5])}" if lost else "")

    def _judged_by_second(self, verdict: Verdict, look: Look) -> Verdict:
        finding = self._second(look)
        if finding.doubtful and not look.whole:
            finding = self._second(replace(look, whole=True))
        self.layers |= {"altered": finding.altered, "again": finding.again}
        if finding.calls:
            self.layers["calls"] = finding.calls
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
        """Run the test files once more, so that none of their tests can run: none may pass."""
        ids = (*self.listed.fail_to_pass, *self.listed.pass_to_pass)
        session = stopped_session(self.listed.files, self.tree, random.Random(secrets.randbits(128)))
        accused, shared = passed_without_running(
            session, ids, self.tree, lambda: self.reference().tree, self.run
        )
        right = len(ids) - len(accused) - shared
        line = f"{right} of {len(ids)} tests do not pass in files that stop before them"
        self.layers["canaries"] = line + (f", {shared} prove nothing here" if shared else "")
        return _tampered(verdict, [f"{test} passes although it cannot run" for test in accused[:5]])

    def _second(self, look: Look) -> Finding:
        listed = self.listed
        chosen = plan(
            listed.runner,
            listed.fail_to_pass,
            listed.pass_to_pass,
            self.tree,
            self.identity,
            whole=look.whole,
            profile=look.profile and listed.runner == "pytest",
        )
        return second_look(chosen, self.tree, lambda: self.reference().tree, self.run)


@dataclass(frozen=True)
class Look:
    """How close the second look is."""

    whole: bool
    profile: bool


def chosen(identity: str) -> Look:
    """Draw how close to look at this submission: always the same for the same."""
    number = int.from_bytes(hashlib.sha256(identity.encode("utf-8", "surrogateescape")).digest()[:4], "big")
    return Look(number % WHOLE == 0, number // WHOLE % PROFILED == 0)


def _tampered(verdict: Verdict, lines: Sequence[str]) -> Verdict:
    if not lines:
        return verdict
    return replace(verdict, resolved=False, tampered=(*verdict.tampered, *lines))
