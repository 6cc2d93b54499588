"""Prove drafts by their tests, which run several times before the fix and after it, the way grading does.

Every run has its own sandbox with the tree that grading would run: the submission (the base tree before the
fix, the reference after it) under the trusted files. The first disqualification ends a proof, so a hopeless
draft costs a run or two.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import NoReturn

from envs.grading.rules import Rules, reference_paths
from envs.grading.run import SETUP_S, run_clean
from envs.grading.submission import admit_tree, lay_trusted
from envs.grading.verdict import decide
from envs.parallel import fitting_workers, in_order
from envs.protection import is_protected
from envs.tasksets.taskset import Runtime
from envs.tasksets.trees import PatchError, apply_patch
from envs.testing.run import Failure, RunReport
from sandboxes.backend import Backend
from sandboxes.base import SandboxError, SandboxSpec, SandboxUnavailable

from ..errors import RegisterOutage
from ..settings import ProofSettings
from .outcomes import Outcomes, compare
from .proofs import VALID, WRONG_PYTHON, Draft, Journal, Proof, proof_key
from .reach import files_to_run, has_python_tests, tests_near, tests_of

RUN_S = 180.0
"""Deadline of one test run."""
SLOW_S = 60.0
"""A task whose tests take longer is dropped: every episode waits for them."""
WHOLE_S = 15.0
"""A suite that takes no longer is run whole, so that the rest of the project's behaviour is guarded too."""
BROKEN = "breaks the sandbox"
_SYNTAX = ("SyntaxError", "IndentationError", "TabError")


def prove_drafts(
    drafts: Iterable[Draft],
    environments: Mapping[str, Runtime],
    settings: ProofSettings,
    *,
    journal: Journal | None = None,
) -> Generator[Proof, None, None]:
    """Yield the proof of every draft, in the order of `drafts`; several drafts are proven in parallel.

    `environments` maps names to runtimes whose images exist; an entry is read when its draft comes up. Proofs
    in the journal are reused. Closing the generator ends every sandbox. Raises RegisterOutage when sandboxes
    can no longer be started.
    """
    runs = settings.runs
    assert runs >= 1, "a proof takes at least one run before the fix and one after it"
    slow: set[str] = set()

    def prove(backend: Backend, draft: Draft) -> Proof:
        environment = environments[draft.environment]
        key = proof_key(draft, environment, runs)
        known = journal.find(key, draft.id) if journal is not None else None
        if known:
            return known
        proof = prove_draft(draft, environment, backend=backend, runs=runs, slow=slow)
        if journal is not None and proof.result != BROKEN:  # the machine may be at fault
            journal.add(key, proof)
        return proof

    what = "proving changes"
    settings.progress(what, 0, 0)
    workers = settings.workers or fitting_workers(SandboxSpec(image=""))
    with closing(in_order(prove, drafts, backend=settings.backend, workers=workers)) as proofs:
        for number, proof in enumerate(proofs, start=1):
            settings.progress(what, number, 0)
            yield proof


def prove_draft(draft: Draft, environment: Runtime, *, backend: Backend, runs: int, slow: set[str]) -> Proof:
    """Prove one draft with `runs` runs before the fix and as many after the fix.

    `slow` collects the names of environments whose whole suite takes too long; later drafts skip such suites.
    Raises RegisterOutage when sandboxes cannot be started.
    """
    trial = Trial(draft, environment, backend)
    try:
        return trial.proof(runs, slow)
    except Disqualified as reason:
        return Proof(draft.id, str(reason), flaky=trial.flaky, evidence=trial.evidence())


class Disqualified(Exception):
    """Raised with the reason why a draft makes no task, in a few words that can be counted."""


class Trial:
    """The test runs that prove one draft."""

    def __init__(self, draft: Draft, environment: Runtime, backend: Backend) -> None:
        self.flaky: tuple[str, ...] = ()
        self._draft, self._environment, self._backend = draft, environment, backend
        self._started = time.monotonic()
        self._trusted = {path: entry for path, entry in draft.solved.items() if is_protected(path)}
        self._evidence: dict[str, object] = {}
        self._sandboxes = 0

    def proof(self, runs: int, slow: set[str]) -> Proof:
        """Run the tests until the draft is proven. Raises Disqualified, RegisterOutage."""
        draft, tests = self._draft, self._environment.tests
        touched = files_to_run(draft.test_files, self._trusted, tests, called=draft.named)
        self.before, self.after = self._trees()
        files, before, after = touched, list[RunReport](), list[RunReport]()
        if touched:
            before = [self._run_before(touched)]
            if len(touched) == len(draft.test_files) and _is_hopeless(before[0]):
                raise Disqualified("no test notices the change")
            after = [self._run_after(touched)]
            files = self._collected(touched, after[0])
            self._require_notice(compare(before, after))
        rule, wider, report = self._widened(files, slow)
        if wider != tuple(files):
            files, before, after = wider, [], [report] if report else []
        if not files:
            raise Disqualified("no test file to run")
        while len(before) < runs or len(after) < runs:
            if len(before) < runs:
                before.append(self._run_before(files))
            if len(after) < runs:
                after.append(self._run_after(files))
            self._require_notice(compare(before, after))
        self._evidence["files"] = rule
        return self._concluded(files, before, after)

    def evidence(self) -> dict[str, object]:
        """Return the observations that `lock.json` keeps: outcomes, reasons, number of sandboxes, seconds."""
        seconds = round(time.monotonic() - self._started, 2)
        return {**self._evidence, "sandboxes": self._sandboxes, "seconds": seconds}

    def _trees(self):
        """Return the graded trees of an empty submission and of the reference."""
        draft, allowed = self._draft, reference_paths(self._draft.reference_patch)
        try:
            reference = apply_patch(draft.base, draft.reference_patch)
        except PatchError:
            raise Disqualified("the reference patch does not apply") from None
        submission = admit_tree(reference, draft.base, Rules(allowed))
        if submission.put_back:
            raise Disqualified("the reference patch touches what is protected")
        return (
            lay_trusted(draft.base, self._trusted, allowed),
            lay_trusted(submission.tree, self._trusted, allowed),
        )

    def _collected(self, files: Sequence[str], after: RunReport) -> tuple[str, ...]:
        """Return the files without those that cannot be collected even after the fix."""
        broken = {path.split("::")[0]: _last_line(text) for path, text in after.collect_errors.items()}
        if broken:
            self._evidence["left_out"] = {**broken}
        return tuple(path for path in files if path not in broken)

    def _require_notice(self, outcomes: Outcomes) -> None:
        self.flaky = outcomes.flaky
        if outcomes.fail_to_pass:
            return
        raise Disqualified("only flaky tests notice" if outcomes.flaky else "no test notices the change")

    def _widened(
        self, touched: Sequence[str], slow: set[str]
    ) -> tuple[str, tuple[str, ...], RunReport | None]:
        """Choose the test files that guard against side effects of a fix.

        Return the name of the rule, the files, and their run after the fix (None if not run).
        """
        chosen, name = tuple(touched), self._draft.environment
        if not has_python_tests(self._environment.tests):
            return "as given", chosen, None
        every = tuple(sorted({*tests_of(self._trusted), *touched}))
        if set(every) == set(touched):
            return "the whole suite", chosen, None
        if name not in slow:
            report = self._run(self.after, every, timeout_s=WHOLE_S)
            if report.finished and not report.timed_out and report.ids("passed"):
                return "the whole suite", self._collected(every, report), report
            if report.timed_out:
                slow.add(name)
        near = tests_near(self._draft.reference_patch, self._trusted, self._environment.tests)
        wider = tuple(sorted({*touched, *near}))
        if wider != chosen:
            report = self._run(self.after, wider, timeout_s=SLOW_S)
            if report.finished and not report.timed_out:
                rule = "what the change touched, and what imports the changed modules"
                return rule, self._collected(wider, report), report
        return "what the change touched", chosen, None

    def _run_before(self, files: Sequence[str]) -> RunReport:
        report = self._run(self.before, files, timeout_s=RUN_S)
        self._evidence.setdefault("before", report.summary)
        if report.timed_out:
            raise Disqualified("timeout before the fix")
        return report

    def _run_after(self, files: Sequence[str]) -> RunReport:
        report = self._run(self.after, files, timeout_s=RUN_S)
        self._evidence["after"] = report.summary
        if report.timed_out:
            raise Disqualified("timeout after the fix")
        if not report.ids("passed"):
            self._nothing_passes(report)
        if not report.finished:
            raise Disqualified("ends the test run")
        return report

    def _nothing_passes(self, report: RunReport) -> NoReturn:
        if report.collect_errors:
            reason = _last_line(next(iter(report.collect_errors.values())))
            self._evidence["said"] = reason
            is_syntax = reason.startswith(_SYNTAX)
            raise Disqualified(WRONG_PYTHON if is_syntax else "collection error after the fix")
        failure = next(iter(report.failures.values()), None)
        reason = f"{failure.error}: {_last_line(failure.message)}" if failure else _last_line(report.log)
        self._evidence["said"] = reason
        raise Disqualified("nothing passes after the fix")

    def _run(self, tree, files: Sequence[str], *, timeout_s: float) -> RunReport:
        """Run test files; a file that cannot be collected does not prevent the others from running."""
        report = self._one_run(tree, files, timeout_s=timeout_s)
        broken = {path.split("::")[0] for path in report.collect_errors}
        rest = [path for path in files if path not in broken]
        if not broken or not rest or report.outcomes or report.timed_out:
            return report
        again = self._one_run(tree, rest, timeout_s=timeout_s)
        return replace(again, collect_errors={**report.collect_errors, **again.collect_errors})

    def _one_run(self, tree, files: Sequence[str], *, timeout_s: float) -> RunReport:
        image, seconds = self._environment.image.ref, timeout_s + 3 * SETUP_S
        spec = SandboxSpec(image=image, workdir=self._draft.workdir, lifetime_s=seconds)
        run = partial(run_clean, tree, spec, self._environment.tests, files, self._backend)
        outage = ""
        for _ in range(2):
            try:
                self._sandboxes += 1
                report = run(timeout_s=timeout_s)
            except SandboxUnavailable as error:
                outage = str(error)
                continue
            except SandboxError:  # the sandbox started, and then failed
                report = None
            if report is not None:
                return report
            outage = ""
        if outage:
            raise RegisterOutage(f"sandboxes can no longer be started ({outage}); run it again, it goes on")
        raise Disqualified(BROKEN)

    def _concluded(
        self, files: Sequence[str], before: Sequence[RunReport], after: Sequence[RunReport]
    ) -> Proof:
        found = compare(before, after)
        first, test_s = before[0], max(report.duration_s for report in after)
        if test_s > SLOW_S:
            raise Disqualified("its tests take too long")
        proof = Proof(
            id=self._draft.id,
            result=VALID,
            fail_to_pass=found.fail_to_pass,
            pass_to_pass=found.pass_to_pass,
            flaky=found.flaky,
            failures=_failures(first, found.fail_to_pass),
            test_files=tuple(files),
            test_s=round(test_s, 3),
        )
        if any(decide(proof, report).resolved for report in before):
            raise Disqualified("the empty patch passes")
        if not all(decide(proof, report).resolved for report in after):
            raise Disqualified("the reference patch fails")
        self._evidence |= {"before": first.summary, "after": after[0].summary, "runs": len(after)}
        self._evidence |= {"flaky": list(found.flaky), "broken": list(found.broken)}
        return replace(proof, evidence=self.evidence())


def _is_hopeless(report: RunReport) -> bool:
    """Return whether every test that the change touched passes before the change.

    Tests that only exist after the fix, such as a parameter that the code lists, are not considered.
    """
    passes = {*report.outcomes.values()} <= {"passed", "skipped", "xfailed"}
    return bool(report.outcomes) and passes and report.finished and not report.collect_errors


def _failures(report: RunReport, tests: Sequence[str]) -> dict[str, Failure]:
    """Return failures by test id, and by path for files that could not be collected."""
    found = {test: report.failures[test] for test in tests if test in report.failures}
    for path, text in report.collect_errors.items():
        error, _, message = _last_line(text).partition(": ")
        found[path] = Failure(error, message)
    return found


def _last_line(text: str) -> str:
    lines = [line.strip().removeprefix("E ").strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "nothing was said"
