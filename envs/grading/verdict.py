"""Compare test outcomes with a task's lists: a verdict by test id."""

from __future__ import annotations

from typing import Protocol

from ..testing.run import RunReport
from ..types import Verdict


class Expects(Protocol):
    """The tests that must pass: of a task, or of a draft that is being validated."""

    @property
    def fail_to_pass(self) -> tuple[str, ...]: ...
    @property
    def pass_to_pass(self) -> tuple[str, ...]: ...


def decide(task: Expects, report: RunReport) -> Verdict:
    """Compare outcomes with the task's lists. Only `passed` counts; a missing test did not pass.

    decide(task, RunReport({"tests/test_a.py::test_x": "passed"}, finished=True))
    """
    expected = [*task.fail_to_pass, *task.pass_to_pass]
    passed = tuple(test for test in expected if report.outcomes.get(test) == "passed")
    unseen = ("unfinished", "duplicate", None)
    missing = tuple(test for test in expected if report.outcomes.get(test) in unseen)
    failed = tuple(test for test in expected if test not in {*passed, *missing})
    offences = ()
    complete = report.finished and not report.timed_out
    if not complete and not (failed or missing):  # honest code that passes all tests also ends its session
        offences = report.irregular or (
            "the test session ended before its end, though every test had passed",
        )
    return Verdict(
        resolved=not (failed or missing or offences),
        passed=passed,
        failed=failed,
        missing=missing,
        tampered=offences,
        log=report.log,
    )
