import json

import pytest

from envs.register.formats.checkouts import Repositories
from envs.register.formats.entry import RowError
from envs.register.formats.r2egym import read_r2egym
from envs.register.formats.resolving import resolve_entry

from .conftest import AFTER, BASE, BEFORE, FIXED, TESTS_AFTER


def r2e_row(commit: str = "a" * 40, **fields):
    changed = [("ladle.py", BEFORE, AFTER), ("tests/test_ladle.py", b"", TESTS_AFTER)]
    diffs = [
        {
            "old_file_content": before.decode(),
            "new_file_content": after.decode(),
            "header": {"file": {"path": path}, "misc_line": None},
            "minus_file": {"path": f"a/{path}"},
            "plus_file": {"path": f"b/{path}"},
            "hunks": [],
        }
        for path, before, after in changed
    ]
    tests = {"test_file_codes": [TESTS_AFTER.decode()], "test_file_names": ["test_1.py"]}
    return {
        "repo_name": "ladle",
        "docker_image": "owner/ladle_final:1",
        "commit_hash": commit,
        "parsed_commit_content": json.dumps({"file_diffs": diffs, "commit_message": "Fix"}),
        "execution_result_content": json.dumps({**tests, "repo_name": "ladle"}),
        "expected_output_json": json.dumps(
            {"test_pour": "PASSED", "\x1b[32mtest_scoop[the one]\x1b[0m - x": "PASSED", "test_slow": "FAILED"}
        ),
        "problem_statement": "[ISSUE]\nA scoop is one short.\n[/ISSUE]",
        **fields,
    }


def test_the_base_is_the_parent_of_the_fix_and_the_tests_are_the_rows_own(upstream):
    entry = read_r2egym(r2e_row(upstream.fix))
    with Repositories({"ladle": upstream.repos / "acme__ladle"}) as repositories:
        resolved = resolve_entry(entry, repositories)
    assert (resolved.commit, resolved.base) == (upstream.base, BASE)
    assert resolved.solved["ladle.py"] == FIXED["ladle.py"]
    assert resolved.test_files == ("r2e_tests/test_1.py",)
    assert resolved.trusted["r2e_tests/test_1.py"].data == TESTS_AFTER
    assert entry.to_pass == ("test_pour", "test_scoop[the one]")
    assert entry.instruction == "A scoop is one short."


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"parsed_commit_content": "{}"}, "parsed_commit_content.file_diffs: is missing"),
        ({"expected_output_json": '{"a": "FAILED"}'}, "expected_output_json: is empty"),
        (
            {
                "execution_result_content": {
                    "test_file_codes": ["", ""],
                    "test_file_names": ["test_1.py", "r.py"],
                }
            },
            "execution_result_content: 'r2e_tests/r.py' is not the name of a test file",
        ),
        (
            {"execution_result_content": {"test_file_codes": [], "test_file_names": ["test_1.py"]}},
            "execution_result_content: does not hold one name for every test file",
        ),
    ],
)
def test_a_field_that_cannot_be_honoured_is_named(fields, message):
    with pytest.raises(RowError) as caught:
        read_r2egym(r2e_row(**fields))
    assert str(caught.value).startswith(message)
