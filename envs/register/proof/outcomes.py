"""Which tests prove a fix: outcomes of each test id in runs before the fix and in runs after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from envs.testing.run import RunReport

_FAILING = frozenset({"failed", "error", "unfinished", "missing"})


@dataclass(frozen=True)
class Outcomes:
    """Every id that passed at least once, in at most one of four lists, each sorted.

    In none of them are tests that never failed before the fix and did not pass there either, as those that
    were skipped: they prove nothing.
    """

    fail_to_pass: tuple[str, ...]
    """Failed, broke or missing in every run before, passed in every run after."""
    pass_to_pass: tuple[str, ...]
    """Passed in every run of both."""
    flaky: tuple[str, ...]
    """Of changing outcome in the runs before, or in the runs after."""
    broken: tuple[str, ...]
    """Passed in every run before and in none after: the fix takes them away."""


def compare(before: Sequence[RunReport], after: Sequence[RunReport]) -> Outcomes:
    """Sort the ids of several runs of the same tests on the tree before a fix, and on the tree after it."""
    lists: dict[str, list[str]] = {"fail_to_pass": [], "pass_to_pass": [], "flaky": [], "broken": []}
    for test in sorted({test for report in (*before, *after) for test in report.outcomes}):
        lists.get(_list_of(_seen(before, test), _seen(after, test)), []).append(test)
    return Outcomes(**{name: tuple(tests) for name, tests in lists.items()})


def _seen(reports: Sequence[RunReport], test: str) -> frozenset[str]:
    """Summarise a test's outcomes over runs: `passed`, `failed`, or `no proof` for any other mixture."""
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
