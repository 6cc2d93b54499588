"""The task sampler: fair, and the same after an interruption."""

from __future__ import annotations

from collections import Counter

import pytest

from trainer.data.sampler import TaskSampler

IDS = [f"task-{n}" for n in range(7)]


def test_every_task_comes_once_before_any_comes_again() -> None:
    sampler = TaskSampler(IDS, seed=1)
    drawn = [name for _ in range(7) for name in sampler.draw(3)]
    for round_ in range(3):
        assert sorted(drawn[7 * round_ : 7 * round_ + 7]) == IDS
    assert drawn[:7] != drawn[7:14], "each round has an order of its own"


def test_a_restored_sampler_draws_what_the_other_would_have() -> None:
    straight, other = TaskSampler(IDS, seed=1), TaskSampler(IDS[::-1], seed=1)
    straight.draw(5)
    other.restore(straight.state())
    assert [straight.draw(4) for _ in range(5)] == [other.draw(4) for _ in range(5)]


def test_more_tasks_than_there_are_come_round_by_round() -> None:
    assert Counter(TaskSampler(IDS, seed=0).draw(14)) == dict.fromkeys(IDS, 2)


def test_no_task_comes_twice_in_one_draw() -> None:
    for count in range(1, 8):
        sampler = TaskSampler(IDS, seed=2)
        drawn = [sampler.draw(count) for _ in range(70)]
        assert all(len(set(names)) == count for names in drawn)
        times = Counter(name for names in drawn for name in names)
        assert max(times.values()) - min(times.values()) <= 1, "every task comes equally often"


def test_a_refill_takes_other_tasks_than_its_step_has_already() -> None:
    sampler = TaskSampler(IDS, seed=3)
    for _ in range(100):
        first = sampler.draw(4)
        assert not set(first) & set(sampler.draw(2, beside=first))


def test_a_state_of_older_runs_is_read() -> None:
    straight, other = TaskSampler(IDS, seed=1), TaskSampler(IDS, seed=1)
    straight.draw(7)
    straight.draw(3)
    other.restore({"ids": sorted(IDS), "drawn": 10})
    assert straight.draw(4) == other.draw(4)


def test_other_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="the tasks changed"):
        TaskSampler(IDS[1:], seed=1).restore(TaskSampler(IDS, seed=1).state())
