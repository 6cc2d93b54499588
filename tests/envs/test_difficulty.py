"""Pass rates stand beside a task set and leave it what it is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from envs.difficulty import pass_rates, record_pass_rates
from envs.tasksets.taskset import TaskSet, TaskSetError, load_taskset, verify_lock


@pytest.fixture
def own(calculator: TaskSet, tmp_path: Path) -> TaskSet:
    """A copy, since these tests write beside the set."""
    shutil.copytree(calculator.folder, tmp_path / "own")
    return load_taskset(tmp_path / "own")


def test_rates_are_read_back_by_policy_and_the_set_stays_the_same(own: TaskSet):
    name = own.tasks[0].id
    assert pass_rates(own) == {}
    record_pass_rates(own.folder, {name: 0.25}, policy="small")
    record_pass_rates(own.folder, {name: 0.75}, policy="large")
    record_pass_rates(own.folder, {name: 0.5}, policy="small")
    after = load_taskset(own.folder)
    assert pass_rates(after, "small") == {name: 0.5}
    assert pass_rates(after, "large") == {name: 0.75}
    assert pass_rates(after) == {name: 0.5}, "the one recorded last"
    assert len(after.records("difficulty")) == 2
    assert after.digest == own.digest
    assert verify_lock(after) == []


def test_the_summary_of_an_evaluation_will_do(own: TaskSet):
    name = own.tasks[0].id
    by_task = {
        name: {"tasks": 1, "scored": 8, "pass_rate": 0.125},
        "unscored": {"tasks": 1, "scored": 0, "pass_rate": None},
    }
    rows = record_pass_rates(own.folder, {"policy": "vllm:m", "by_task": by_task, "resolved": 1})
    assert [(row.task, row.policy, row.pass_rate, row.episodes) for row in rows] == [
        (name, "vllm:m", 0.125, 8)
    ]


def test_results_of_another_set_are_refused(own: TaskSet, tmp_path: Path):
    with pytest.raises(TaskSetError, match="another task set"):
        record_pass_rates(own.folder, {"nowhere-1": 0.5})
    with pytest.raises(TaskSetError, match="between 0 and 1"):
        record_pass_rates(own.folder, {own.tasks[0].id: 50})
    with pytest.raises(TaskSetError, match="not a task set"):
        record_pass_rates(tmp_path, {})
    assert own.records("difficulty") == []
