import pytest

from envs.register.formats.entry import Entry, RowError
from envs.register.formats.listing import KnownTests, agree
from envs.register.proof.proofs import VALID, Proof

PROOF = Proof(
    "x", VALID, ("t.py::test_new[a b]", "t.py::test_new[a c]"), ("t.py::test_old",), ("t.py::test_mad",)
)


def entry(**lists) -> Entry:
    return Entry("x", {}, "", "", "", **lists)


def test_names_become_the_ids_they_stand_for_and_what_no_run_confirms_is_dropped_and_named():
    listed = agree(
        entry(
            fail_to_pass=("t.py::test_new[a",),
            pass_to_pass=("t.py::test_old", "t.py::test_gone", "t.py::test_mad"),
        ),
        PROOF,
    )
    assert listed.fail_to_pass == PROOF.fail_to_pass
    assert listed.pass_to_pass == PROOF.pass_to_pass
    assert listed.dropped == ("t.py::test_gone", "t.py::test_mad")


def test_a_test_that_is_listed_as_passing_but_fails_before_the_fix_here_is_kept_as_failing():
    listed = agree(entry(fail_to_pass=("t.py::test_new[a b]",), pass_to_pass=("t.py::test_new[a c]",)), PROOF)
    assert (listed.fail_to_pass, listed.pass_to_pass) == (PROOF.fail_to_pass, ())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("t.py::test_gone", "FAIL_TO_PASS: 't.py::test_gone' does not pass after the fix"),
        ("t.py::test_old", "FAIL_TO_PASS: 't.py::test_old' passes before the fix already"),
        ("t.py::test_mad", "FAIL_TO_PASS: 't.py::test_mad' does not do the same in every run"),
    ],
)
def test_every_promise_of_a_row_is_kept_or_the_row_is_refused(name, message):
    with pytest.raises(RowError, match=message):
        agree(entry(fail_to_pass=("t.py::test_new[a b]", name)), PROOF)


def test_a_row_that_only_says_what_passes_after_the_fix_lets_the_runs_decide():
    listed = agree(entry(to_pass=("test_new[a b]", "test_old")), PROOF)
    assert (listed.fail_to_pass, listed.pass_to_pass) == (("t.py::test_new[a b]",), ("t.py::test_old",))
    with pytest.raises(RowError, match="expected_output_json: 'test_mad' does not pass every time"):
        agree(entry(to_pass=("test_new[a b]", "test_mad")), PROOF)
    with pytest.raises(RowError, match="expected_output_json: none of its tests fails before the fix"):
        agree(entry(to_pass=("test_old",)), PROOF)


def test_a_draft_that_was_not_proven_says_why():
    proof = Proof("x", "nothing passes after the fix", evidence={"said": "ImportError: no numpy"})
    with pytest.raises(RowError, match=r"nothing passes after the fix \(ImportError: no numpy\)"):
        agree(entry(fail_to_pass=("t.py::test_new[a b]",)), proof)


IDS = (
    "tests/test_a.py::test_x[the end]",
    "tests/test_a.py::test_x[the start]",
    "tests/test_a.py::TestBox::test_x",
    "tests/queries/tests.py::QueryTests::test_order",
    "tests/other/tests.py::QueryTests::test_order",
    "tests/test_b.py::test_only",
)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("tests/test_a.py::test_x[the end]", [0]),
        ("tests/test_a.py::test_x[the", [0, 1]),
        ("test_order (queries.tests.QueryTests)", [3]),
        ("test_order (queries.tests.QueryTests.test_order)", [3]),
        ("TestBox.test_x", [2]),
        ("test_only", [5]),
        ("QueryTests.test_order", [4, 3]),
        ("test_onl", []),
        ("tests/test_c.py::test_only", []),
        ("test_order (nothing.QueryTests)", []),
        ("Orders come back in order (as a docstring says)", []),
    ],
)
def test_a_name_finds_every_test_it_may_stand_for(name, found):
    assert list(KnownTests(IDS).find(name)) == [IDS[place] for place in found]


def test_ids_of_unittest_are_found_by_what_it_prints():
    known = KnownTests(["app.tests.test_views.Views.test_get"])
    assert known.find("test_get (tests.test_views.Views)") == ("app.tests.test_views.Views.test_get",)
    assert known.find("Views.test_get") == ("app.tests.test_views.Views.test_get",)
