"""Advantages: the rewards of a group's trajectories relative to each other.

Unscored members are excluded, from the baseline too. Zero-variance groups (equal rewards of all scored
members) and groups with too few scored members give no gradient: they are dropped and counted. Rewards are
compared for equality, since a threshold on their standard deviation would pass rounding noise as a signal.

An advantage is a function of the scored members of one group, whose rewards are not all equal:

    def best_of_group(inputs: AdvantageInputs) -> list[float]:
        return [float(reward == max(inputs.rewards)) for reward in inputs.rewards]
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agents.types import Trajectory


@dataclass(frozen=True)
class AdvantageInputs:
    """The scored members of one group, two at least, whose rewards are not all the same."""

    rewards: Sequence[float]
    trajectories: Sequence[Trajectory] = ()
    """Trajectories in the order of `rewards`."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """`rl.advantage_settings`."""


Advantage = Callable[[AdvantageInputs], Sequence[float]]
"""One advantage per member, in their order."""


@dataclass(frozen=True)
class Advantages:
    """Advantage by trajectory id, for members of live groups only, and counts of the groups."""

    values: Mapping[str, float] = field(default_factory=dict)
    live: int = 0
    """Groups with differing rewards."""
    mixed: int = 0
    """Live groups with differing outcomes, too."""
    no_spread: int = 0
    """Zero-variance groups."""
    too_few: int = 0
    """Groups with too few scored members."""
    unscored: int = 0
    """Trajectories without a reward."""

    @property
    def groups(self) -> int:
        """Number of all groups."""
        return self.live + self.no_spread + self.too_few


def mean(inputs: AdvantageInputs) -> list[float]:
    """Subtract the group's mean (Dr. GRPO, arXiv 2503.20783)."""
    rewards = inputs.rewards
    baseline = math.fsum(rewards) / len(rewards)
    return [reward - baseline for reward in rewards]


def mean_std(inputs: AdvantageInputs) -> list[float]:
    """Subtract the mean and divide by the population standard deviation (GRPO, arXiv 2402.03300).

    However small the differences are: beside a shaped reward, `mean` keeps small differences small.
    """
    differences = mean(inputs)
    scale = 1 / math.sqrt(math.fsum(d * d for d in differences) / len(differences))
    return [difference * scale for difference in differences]


def leave_one_out(inputs: AdvantageInputs) -> list[float]:
    """Subtract the mean of the others (RLOO, arXiv 2402.14740), which is `mean` times G / (G - 1)."""
    scale = len(inputs.rewards) / (len(inputs.rewards) - 1)
    return [difference * scale for difference in mean(inputs)]


def group_advantages(
    trajectories: Iterable[Trajectory],
    *,
    rewards: Mapping[str, float] | None = None,
    advantage: Advantage = mean,
    settings: Mapping[str, Any] | None = None,
    min_scored: int = 2,
) -> Advantages:
    """Compute the advantages of the scored members of every group.

    `rewards`, by id of every scored trajectory, replace the outcomes when given.
    """
    assert min_scored >= 2, "one trajectory alone has nothing to be compared with"
    groups: dict[str, list[Trajectory]] = defaultdict(list)
    for trajectory in trajectories:
        groups[trajectory.group].append(trajectory)
    values: dict[str, float] = {}
    live = mixed = no_spread = too_few = unscored = 0
    for members in groups.values():
        scored = [member for member in members if member.reward is not None]
        given = [_reward(member, rewards) for member in scored]
        unscored += len(members) - len(scored)
        if len(scored) < min_scored:
            too_few += 1
        elif all(reward == given[0] for reward in given):
            no_spread += 1
        else:
            live += 1
            mixed += len({member.reward for member in scored}) > 1
            found = advantage(AdvantageInputs(given, scored, settings or {}))
            values.update(zip((member.id for member in scored), found, strict=True))
    return Advantages(values, live, mixed, no_spread, too_few, unscored)


def _reward(trajectory: Trajectory, rewards: Mapping[str, float] | None) -> float:
    reward = trajectory.reward if rewards is None else rewards[trajectory.id]
    assert reward is not None, "only scored trajectories are compared"
    return reward
