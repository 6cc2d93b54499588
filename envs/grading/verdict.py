"""The comparison of test outcomes with a task's lists: a verdict by test id."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ..testing.run import RunReport
from ..types import Verdict


class Expects(Protocol):
    """What is to pass: a task, or one that is being proven."""

    @property
    def fail_to_pass(self) -> tuple[str, ...]: ...
    @property
    def pass_to_pass(self) -> tuple[str, ...]: ...


def decide(task: Expects, report: RunReport, tampered: Iterable[str] = ()) -> Verdict:
    """Compare outcomes with what the task lists. Only `passed` counts; what is missing did not pass."""
    expected = [*task.fail_to_pass, *task.pass_to_pass]
    passed = tuple(test for test in expected if report.outcomes.get(test) == "passed")
    unseen = ("unfinished", "duplicate", None)
    missing = tuple(test for test in expected if report.outcomes.get(test) in unseen)
    failed = tuple(test for test in expected if test not in {*passed, *missing})
    offences = tuple(tampered)
    complete = report.finished and not report.timed_out
    if not complete and not (failed or missing):
        offences += report.irregular or (
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
