import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.register.formats.entry import Checkout, RowError
from envs.register.formats.swebench import read_swebench, repository_of, write_swebench_row
from envs.tasksets.trees import apply_patch

from .conftest import BASE, POUR, SCOOPS, SOLVED, swebench_row

_IDS = st.lists(st.text(min_size=1), max_size=4)


@given(failing=_IDS.filter(bool), passing=_IDS)
def test_lists_of_tests_are_read_the_same_as_lists_and_as_json_texts(failing, passing):
    plain = swebench_row(FAIL_TO_PASS=failing, PASS_TO_PASS=passing)
    texts = swebench_row(FAIL_TO_PASS=json.dumps(failing), PASS_TO_PASS=json.dumps(passing))
    for row in (plain, texts):
        entry = read_swebench(row)
        assert entry.fail_to_pass == tuple(failing)
        assert entry.pass_to_pass == tuple(passing)


def test_a_row_says_where_it_starts_what_it_asks_and_where_it_runs():
    entry = read_swebench(swebench_row("a" * 40, image="registry/eval:7", patch="x"))
    assert entry.origin == Checkout("acme/ladle", "a" * 40)
    assert (entry.image, entry.workdir) == ("registry/eval:7", "/testbed")
    assert entry.reference_patch == "x\n"  # trimmed by whoever made the row; git refuses it so


@pytest.mark.parametrize("name", ["image", "image_name", "docker_image"])
def test_an_image_is_found_under_each_name_it_has(name):
    assert read_swebench(swebench_row(**{name: "owner/eval"})).image == "owner/eval"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"FAIL_TO_PASS": "[oops"}, "FAIL_TO_PASS: is neither a list or object nor the JSON text of one"),
        ({"FAIL_TO_PASS": "[]"}, "FAIL_TO_PASS: is empty"),
        ({"PASS_TO_PASS": [1]}, "PASS_TO_PASS.0: Input should be a valid string"),
        ({"problem_statement": None}, "problem_statement: is empty"),
        ({"patch": 7}, "patch: Input should be a valid string"),
        ({"language": "rust"}, "language: 'rust' needs a recipe of its own"),
        ({"eval_type": "fail_only"}, "eval_type: 'fail_only' counts tests without a result as passed"),
        ({"image_assets": {"test_patch": [{"path": "a.png"}]}}, "image_assets: the row needs pictures"),
        ({"image": "a", "docker_image": "b"}, "image and docker_image: name different images"),
        ({"install_config": '{"test_cmd": ["cargo test"]}'}, "install_config.test_cmd: 'cargo test' is not"),
    ],
)
def test_a_field_that_cannot_be_honoured_is_named(fields, message):
    with pytest.raises(RowError) as caught:
        read_swebench(swebench_row(**fields))
    assert str(caught.value).startswith(message)


def test_a_missing_field_is_named():
    row = swebench_row()
    del row["test_patch"]
    with pytest.raises(RowError, match=r"^test_patch: is missing$"):
        read_swebench(row)


def test_a_task_written_as_a_row_and_read_again_is_the_same_work(ladle_set):
    task = ladle_set.tasks[0]
    entry = read_swebench(json.loads(json.dumps(write_swebench_row(ladle_set, task, {}))))
    assert (entry.id, entry.instruction) == (task.id, task.instruction)
    assert entry.origin == Checkout("acme/ladle", "0" * 40)
    assert (entry.fail_to_pass, entry.pass_to_pass) == (SCOOPS, (POUR,))
    assert apply_patch(apply_patch(BASE, entry.reference_patch), entry.test_patch) == SOLVED


def test_a_row_keeps_the_fields_that_a_task_has_no_place_for(ladle_set):
    kept = swebench_row(hints_text="Look twice.", version="4.1", difficulty="<15 min", image="owner/eval:1")
    row = write_swebench_row(ladle_set, ladle_set.tasks[0], kept)
    assert {name: row[name] for name in ("hints_text", "version", "difficulty", "image", "created_at")} == {
        "hints_text": "Look twice.",
        "version": "4.1",
        "difficulty": "<15 min",
        "image": "owner/eval:1",
        "created_at": "2024-05-01T10:00:00Z",
    }
    assert row["problem_statement"] == ladle_set.tasks[0].instruction


def test_the_repository_of_a_set_is_read_off_its_source():
    assert repository_of("https://example.org/acme/ladle.git at 0123") == "acme/ladle"
    assert repository_of("git@example.org:acme/ladle.git") == "acme/ladle"
    assert repository_of("/somewhere/ladle at 0123") == "ladle"
