"""Group-relative advantages: who is compared with whom, and what teaches nothing."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.types import Trajectory
from envs.types import StopReason, Verdict
from trainer.algorithms.advantages import (
    Advantage,
    AdvantageInputs,
    group_advantages,
    leave_one_out,
    mean,
    mean_std,
)

rewards = st.lists(st.sampled_from([0.0, 1.0, 0.1, 0.7]), min_size=2, max_size=10)


def member(name: str, group: str, reward: float | None) -> Trajectory:
    verdict = None if reward is None else Verdict(reward == 1.0)
    stop = StopReason.INFRA if reward is None else StopReason.SUBMITTED
    return Trajectory(name, "task", "hash", group, "p", 0, (), stop, reward, verdict)


def group(values: list[float], advantage: Advantage = mean) -> list[float]:
    """Advantages of a group with these rewards, in their order; none for a zero-variance group."""
    members = [member(str(n), "g", 0.0) for n in range(len(values))]
    given = {str(n): value for n, value in enumerate(values)}
    return list(group_advantages(members, rewards=given, advantage=advantage).values.values())


def test_three_baselines_by_hand() -> None:
    assert group([1.0, 0.0, 0.0, 0.0]) == [0.75, -0.25, -0.25, -0.25]
    assert group([1.0, 0.0, 0.0, 0.0], leave_one_out) == pytest.approx([1.0, -1 / 3, -1 / 3, -1 / 3])
    deviation = math.sqrt(0.25 * 0.75)
    assert group([1.0, 0.0, 0.0, 0.0], mean_std) == pytest.approx(
        [0.75 / deviation] + [-0.25 / deviation] * 3
    )


@given(rewards)
def test_advantages_sum_to_nothing_and_do_not_depend_on_the_order(values: list[float]) -> None:
    forward, backward = group(values), group(values[::-1])
    if len(set(values)) == 1:
        assert forward == backward == []
        return
    assert math.fsum(forward) == pytest.approx(0, abs=1e-12)
    assert forward == pytest.approx(backward[::-1])
    assert group(values * 2) == pytest.approx(forward * 2)


def test_equal_rewards_teach_nothing_even_when_their_mean_rounds() -> None:
    # The mean of ten times 0.1 is not 0.1 in floating point; a test on the deviation would see a spread.
    assert group([0.1] * 10) == group([0.1] * 3, mean_std) == []


def test_an_advantage_sees_the_members_behind_the_rewards_and_its_settings() -> None:
    def by_name(inputs: AdvantageInputs) -> list[float]:
        return [inputs.settings["scale"] * float(t.id == "a2") for t in inputs.trajectories]

    members = [member("a1", "a", 1.0), member("a2", "a", 0.0), member("a3", "a", None)]
    found = group_advantages(members, advantage=by_name, settings={"scale": 3.0})
    assert found.values == {"a1": 0.0, "a2": 3.0}


def test_unscored_members_move_nobody_and_dead_groups_are_counted() -> None:
    found = group_advantages(
        [
            member("a1", "a", 1.0),
            member("b1", "b", 1.0),
            member("a2", "a", 0.0),
            member("a3", "a", None),
            member("b2", "b", 1.0),
            member("c1", "c", 1.0),
            member("c2", "c", None),
            member("d1", "d", None),
        ]
    )
    assert found.values == {"a1": 0.5, "a2": -0.5}
    assert (found.live, found.no_spread, found.too_few, found.unscored) == (1, 1, 2, 3)
    assert found.groups == 4


def test_a_group_needs_as_many_scored_members_as_asked_for() -> None:
    members = [member("a1", "a", 1.0), member("a2", "a", 0.0), member("a3", "a", None)]
    assert group_advantages(members, min_scored=2).live == 1
    assert group_advantages(members, min_scored=3).too_few == 1
