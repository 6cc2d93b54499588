"""Find the tests that prove a fix, by the outcomes of test ids in runs before the fix and after the fix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from envs.testing.run import RunReport

_FAILING = frozenset({"failed", "error", "unfinished", "missing"})


@dataclass(frozen=True)
class Outcomes:
    """Test ids in four sorted lists without common ids.

    No list has a test whose outcomes prove nothing, such as a test that is skipped before the fix, or a test
    that fails before and after the fix.
    """

    fail_to_pass: tuple[str, ...]
    """Tests that failed, broke or were missing in every run before the fix, and passed in every run after."""
    pass_to_pass: tuple[str, ...]
    """Tests that passed in every run."""
    flaky: tuple[str, ...]
    """Tests whose outcome varies between the runs before the fix, or between the runs after."""
    broken: tuple[str, ...]
    """Tests that passed in every run before the fix and in no run after: the fix breaks or removes them."""


def compare(before: Sequence[RunReport], after: Sequence[RunReport]) -> Outcomes:
    """Compare runs of the same tests on the tree before a fix with runs on the tree after the fix."""
    lists: dict[str, list[str]] = {"fail_to_pass": [], "pass_to_pass": [], "flaky": [], "broken": []}
    for test in sorted({test for report in (*before, *after) for test in report.outcomes}):
        lists.get(_list_of(_seen(before, test), _seen(after, test)), []).append(test)
    return Outcomes(**{name: tuple(tests) for name, tests in lists.items()})


def _seen(reports: Sequence[RunReport], test: str) -> frozenset[str]:
    """Return the kinds of a test's outcomes over runs: `passed`, `failed`, and `no proof` for all others."""
    return frozenset(_kind(report.outcomes.get(test, "missing")) for report in reports)


def _kind(outcome: str) -> str:
    return "failed" if outcome in _FAILING else outcome if outcome == "passed" else "no proof"


def _list_of(before: frozenset[str], after: frozenset[str]) -> str:
    if len(before) > 1 or len(after) > 1:
        return "flaky"
    match (*before, *after):
        case ("failed", "passed"):
            return "fail_to_pass"
        case ("passed", "passed"):
            return "pass_to_pass"
        case ("passed", _):
            return "broken"
    return ""
