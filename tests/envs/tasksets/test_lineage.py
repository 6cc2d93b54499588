"""From a line as it is now back to the base, and from there to the change that touched it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.tasksets.lineage import FileLineage, earlier_line, lineage_of, runs_of
from envs.tasksets.taskset import TaskSet, TaskSetError, write_taskset
from envs.tasksets.trees import TreeFile


@given(st.lists(st.integers(0, 3), max_size=30))
def test_runs_hold_every_line_in_order(changes: list[int]) -> None:
    file = FileLineage("a", "", 0, runs_of(changes))
    assert [file.change_of(line + 1) for line in range(len(changes))] == changes
    assert file.change_of(len(changes) + 1) is None


@given(st.lists(st.sampled_from("abcd")), st.lists(st.sampled_from("abcd")))
def test_a_line_is_only_ever_taken_for_an_equal_one(before: list[str], now: list[str]) -> None:
    found = [earlier_line(before, now, line + 1) for line in range(len(now))]
    kept = [(before[at - 1], now[line]) for line, at in enumerate(found) if at is not None]
    assert all(old == new for old, new in kept)
    order = [at for at in found if at is not None]
    assert order == sorted(set(order))


def test_lines_around_an_edit_are_found_again_and_new_ones_are_not() -> None:
    before = ["a", "b", "c", "d"]
    now = ["a", "new", "b", "C", "d", "end"]
    assert [earlier_line(before, now, line) for line in range(1, 7)] == [1, None, 2, None, 4, None]


def test_a_file_that_returned_to_old_content_is_told_of_as_of_the_base(
    calculator: TaskSet, tmp_path: Path
) -> None:
    file = TreeFile(b"x\n")
    rows = [FileLineage("a", file.sha256, since, ((since, 1),)) for since in (0, 4)]
    trees = [calculator.source_tree(calculator.tasks[0])]
    taskset = write_taskset(
        tmp_path / "set", calculator.manifest, calculator.tasks, trees, records={"lineage": rows}
    )
    assert [getattr(lineage_of(taskset, "a", file, past), "since", None) for past in (0, 1, 4, 5)] == [
        None,
        0,
        0,
        4,
    ]
    assert lineage_of(taskset, "b", file, 5) is None
    (taskset.folder / "lineage.jsonl").write_text('{"path": "a"}\n')
    with pytest.raises(TaskSetError, match="register it again"):
        lineage_of(replace(taskset, digest="other"), "a", file, 5)
