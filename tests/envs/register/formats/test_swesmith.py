import pytest

from envs.protection import is_protected
from envs.register.formats.checkouts import Repositories
from envs.register.formats.entry import Checkout, RowError
from envs.register.formats.resolving import resolve_entry
from envs.register.formats.swesmith import read_swesmith
from envs.tasksets.trees import apply_patch, diff_trees

from .conftest import BASE, FIXED, POUR, SCOOPS, SOLVED


def smith_row(commit: str, **fields):
    return {
        "instance_id": "acme__ladle.12345678.func_basic__abc",
        "repo": f"swesmith/acme__ladle.{commit[:8]}",
        "patch": diff_trees(FIXED, BASE),  # the bug
        "FAIL_TO_PASS": list(SCOOPS),
        "PASS_TO_PASS": [POUR],
        "image_name": "swesmith.x86_64.acme__ladle",
        "problem_statement": "A scoop is one short.",
        **fields,
    }


def test_the_patch_is_the_bug_and_its_reverse_the_fix(upstream):
    with Repositories(upstream.repos) as repositories:
        resolved = resolve_entry(read_swesmith(smith_row(upstream.fix)), repositories)
    assert resolved.base["ladle.py"] == BASE["ladle.py"]
    assert apply_patch(resolved.base, resolved.reference_patch)["ladle.py"] == FIXED["ladle.py"]
    assert resolved.commit == upstream.fix


def test_the_files_of_the_failing_tests_are_hidden_and_trusted(upstream):
    with Repositories(upstream.repos) as repositories:
        resolved = resolve_entry(read_swesmith(smith_row(upstream.fix)), repositories)
    assert "tests/test_ladle.py" not in resolved.base
    assert resolved.trusted == {path: file for path, file in SOLVED.items() if is_protected(path)}
    assert resolved.test_files == ("tests/test_ladle.py",)


def test_a_bug_that_does_not_apply_is_named(upstream):
    row = smith_row(upstream.fix, patch=diff_trees(BASE, FIXED))
    with (
        Repositories(upstream.repos) as repositories,
        pytest.raises(RowError, match=r"^patch: does not apply"),
    ):
        resolve_entry(read_swesmith(row), repositories)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"repo": "acme/ladle"}, "repo: 'acme/ladle' does not end in __NAME.COMMIT"),
        ({"problem_statement": ""}, "problem_statement: is empty"),
        ({"patch": ""}, "patch: is empty"),
    ],
)
def test_a_row_without_what_it_takes_is_refused(fields, message):
    with pytest.raises(RowError, match=message):
        read_swesmith(smith_row("1" * 40, **fields))


def test_names_with_dots_and_dashes_are_taken_apart_at_the_last_dot():
    entry = read_swesmith(smith_row("", repo="swesmith/pallets-eco__flask.wtf.0123abcd"))
    assert isinstance(entry.origin, Checkout)
    assert (entry.origin.repository, entry.origin.commit) == ("pallets-eco/flask.wtf", "0123abcd")
