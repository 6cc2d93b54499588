"""A task that fails leaves the set with its reason, and everything else stays as it was."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from envs.register.proof.quarantine import add_evidence, quarantine
from envs.tasksets.taskset import TaskSet, TaskSetError, load_taskset, verify_lock, write_taskset


@pytest.fixture
def folder(calculator: TaskSet, tmp_path: Path) -> Path:
    """A set of two tasks, a record, and a remark in its settings."""
    task = calculator.tasks[0]
    tasks = [task, replace(task, id="calculator-0002")]
    folder = tmp_path / "set"
    trees = [calculator.source_tree(task)]
    write_taskset(folder, calculator.manifest, tasks, trees, prs=calculator.prs, evidence={"runs": 3})
    return folder


def test_a_failing_task_moves_to_the_quarantine_with_its_reason(folder: Path, calculator: TaskSet) -> None:
    (folder / "notes.txt").write_text("kept")
    after = quarantine(folder, {"calculator-0002": "the empty patch passes"})
    assert [task.id for task in after.tasks] == ["calculator-0001"]
    (row,) = after.records("quarantine")
    assert (row["id"], row["reason"]) == ("calculator-0002", "the empty patch passes")
    assert row["task"]["fail_to_pass"] == list(calculator.tasks[0].fail_to_pass)
    assert verify_lock(after) == []
    assert after.prs == calculator.prs
    assert (folder / "notes.txt").read_text() == "kept"
    quarantine(folder, {"calculator-0001": "so does this one"})
    assert [row["id"] for row in load_taskset(folder).records("quarantine")] == [
        "calculator-0002", "calculator-0001",
    ]  # fmt: skip
    assert sorted(path.name for path in folder.parent.iterdir()) == ["set"]


def test_what_was_altered_before_is_still_found_out_afterwards(folder: Path) -> None:
    rows = [json.loads(line) for line in (folder / "tasks.jsonl").read_text().splitlines()]
    rows[0]["instruction"] = "Do nothing."
    (folder / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    after = quarantine(folder, {"calculator-0002": "flaky"})
    assert verify_lock(after) == ["calculator-0001 changed since it was registered"]


def test_a_task_that_is_not_there_changes_nothing(folder: Path) -> None:
    before = load_taskset(folder).digest
    with pytest.raises(TaskSetError, match="no task 'calculator-0009'"):
        quarantine(folder, {"calculator-0001": "flaky", "calculator-0009": "flaky"})
    assert load_taskset(folder).digest == before
    shutil.rmtree(folder)
    with pytest.raises(TaskSetError):
        quarantine(folder, {})


def test_evidence_is_added_to_what_is_there(folder: Path) -> None:
    digest = load_taskset(folder).digest
    add_evidence(folder, {"confirmed": {"tasks": 2}})
    evidence = json.loads((folder / "lock.json").read_text())["evidence"]
    assert evidence == {"runs": 3, "confirmed": {"tasks": 2}}
    assert load_taskset(folder).digest == digest
    assert verify_lock(load_taskset(folder)) == []
