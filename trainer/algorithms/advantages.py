"""Rewards of a group into advantages: how much better was a trajectory than its siblings?

Members without a reward (their sandbox failed) are left out; they move nobody's baseline. A group whose
scored members all got the same reward, or that has too few of them, teaches nothing: it is dropped and
counted. Rewards are compared for equality: a threshold on their standard deviation would let rounding
noise through as a signal.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from agents.types import Trajectory

Baseline = Literal["mean", "mean_std", "leave_one_out"]


@dataclass(frozen=True)
class Advantages:
    """Advantage by trajectory id, for members of live groups only, and what became of the groups."""

    values: Mapping[str, float] = field(default_factory=dict)
    live: int = 0
    """Groups with a signal."""
    no_spread: int = 0
    """Groups whose scored members all got the same reward."""
    too_few: int = 0
    """Groups with too few scored members."""
    unscored: int = 0
    """Trajectories without a reward."""

    @property
    def groups(self) -> int:
        """Groups in all."""
        return self.live + self.no_spread + self.too_few


def centred(rewards: Sequence[float], baseline: Baseline = "mean") -> list[float] | None:
    """Compare rewards with each other; None when they do not differ.

    `mean` subtracts the mean (Dr. GRPO, arXiv 2503.20783); `mean_std` also divides by the population standard
    deviation (GRPO, arXiv 2402.03300); `leave_one_out` subtracts the mean of the others (RLOO, arXiv
    2402.14740), which is `mean` times G / (G - 1).
    """
    if len(rewards) < 2 or all(reward == rewards[0] for reward in rewards):
        return None
    count = len(rewards)
    mean = math.fsum(rewards) / count
    differences = [reward - mean for reward in rewards]
    if baseline == "mean_std":
        scale = 1 / math.sqrt(math.fsum(d * d for d in differences) / count)
    else:
        scale = count / (count - 1) if baseline == "leave_one_out" else 1.0
    return [difference * scale for difference in differences]


def group_advantages(
    trajectories: Iterable[Trajectory],
    *,
    rewards: Mapping[str, float] | None = None,
    baseline: Baseline = "mean",
    min_scored: int = 2,
) -> Advantages:
    """Compare the scored members of every group with each other.

    `rewards` by trajectory id, of every scored one, are compared instead of the outcomes when given.
    """
    assert min_scored >= 2, "one trajectory alone has nothing to be compared with"
    groups: dict[str, list[Trajectory]] = defaultdict(list)
    for trajectory in trajectories:
        groups[trajectory.group].append(trajectory)
    values: dict[str, float] = {}
    live = no_spread = too_few = unscored = 0
    for members in groups.values():
        scored = [
            (member.id, member.reward if rewards is None else rewards[member.id])
            for member in members
            if member.reward is not None
        ]
        unscored += len(members) - len(scored)
        if len(scored) < min_scored:
            too_few += 1
            continue
        differences = centred([reward for _, reward in scored], baseline)
        if differences is None:
            no_spread += 1
            continue
        live += 1
        values.update(zip((name for name, _ in scored), differences, strict=True))
    return Advantages(values, live, no_spread, too_few, unscored)
