"""The algebra of outcomes: what runs before and after a fix say about each test."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from envs.register.proof.outcomes import compare
from envs.testing.run import RunReport

KINDS = ("passed", "failed", "error", "skipped", "xfailed", "xpassed", "unfinished", "duplicate", "missing")
FAILING = {"failed", "error", "unfinished", "missing"}

runs = st.lists(
    st.dictionaries(st.sampled_from(["a", "b", "c"]), st.sampled_from(KINDS[:-1])), min_size=1, max_size=3
)


def reports(outcomes: list[dict[str, str]]) -> list[RunReport]:
    return [RunReport(outcomes=run, finished=True) for run in outcomes]


def one(before: list[str], after: list[str]) -> str:
    """The list that a single test ends up in."""

    def run(outcome: str) -> RunReport:
        return RunReport(outcomes={} if outcome == "missing" else {"t": outcome})

    found = compare([run(outcome) for outcome in before], [run(outcome) for outcome in after])
    names = ("fail_to_pass", "pass_to_pass", "flaky", "broken")
    return " ".join(name for name in names if getattr(found, name))


def test_a_test_proves_a_fix_when_it_never_passed_before_and_always_after() -> None:
    assert one(["failed", "failed"], ["passed", "passed"]) == "fail_to_pass"
    assert one(["error", "missing"], ["passed", "passed"]) == "fail_to_pass"
    assert one(["unfinished"], ["passed"]) == "fail_to_pass"


def test_a_test_guards_the_rest_when_it_passes_in_every_run() -> None:
    assert one(["passed", "passed"], ["passed", "passed"]) == "pass_to_pass"


def test_a_test_of_changing_outcome_is_flaky_on_either_side() -> None:
    assert one(["failed", "passed"], ["passed", "passed"]) == "flaky"
    assert one(["failed", "failed"], ["passed", "failed"]) == "flaky"
    assert one(["passed", "skipped"], ["passed", "passed"]) == "flaky"


def test_what_was_skipped_or_expected_to_fail_before_the_fix_proves_nothing() -> None:
    for outcome in ("skipped", "xfailed", "xpassed", "duplicate"):
        assert one([outcome], ["passed"]) == ""


def test_a_test_that_the_fix_takes_away_is_named() -> None:
    assert one(["passed"], ["failed"]) == "broken"
    assert one(["passed"], ["missing"]) == "broken"


@given(runs, runs)
def test_the_lists_share_no_test_and_say_what_every_run_said(
    before: list[dict[str, str]], after: list[dict[str, str]]
) -> None:
    found = compare(reports(before), reports(after))
    lists = (found.fail_to_pass, found.pass_to_pass, found.flaky, found.broken)
    assert len({test for tests in lists for test in tests}) == sum(map(len, lists))
    for test in (*found.fail_to_pass, *found.pass_to_pass):
        assert all(report.get(test) == "passed" for report in after)
    for test in found.fail_to_pass:
        assert all(report.get(test, "missing") in FAILING for report in before)
    for test in found.pass_to_pass:
        assert all(report.get(test) == "passed" for report in before)


@given(runs, runs)
def test_more_runs_never_turn_a_doubtful_test_into_a_proof(
    before: list[dict[str, str]], after: list[dict[str, str]]
) -> None:
    fewer, more = compare(reports(before)[:1], reports(after)[:1]), compare(reports(before), reports(after))
    assert set(more.fail_to_pass) <= set(fewer.fail_to_pass)
    assert set(more.pass_to_pass) <= set(fewer.pass_to_pass)
