"""The reward of an episode's last step, as `CodingEnv` returns it: by default the outcome, 1.0 or 0.0.

A reward of your own is a function of the verdict, given as a callable or as `module:attribute`:

    def share_passed(verdict: Verdict) -> float:
        return len(verdict.passed) / max(1, len(verdict.passed + verdict.failed + verdict.missing))

    CodingEnv(tasksets, reward=share_passed)

A trajectory stores the verdict, and `Verdict.reward` (the outcome) as its reward, whatever this function
gives, so that records stay comparable. Training shapes its own rewards from trajectories, in
`trainer.algorithms.rewards`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Protocol

from sandboxes.names import resolve

from ..types import Verdict


class Reward(Protocol):
    """Maps a verdict to a finite number."""

    def __call__(self, verdict: Verdict, /) -> float: ...


class RewardError(ValueError):
    """A reward that returned no finite number, or is no function. Takes one sentence."""


def outcome(verdict: Verdict) -> float:
    """1.0 if every listed test passed and nothing was tampered with, else 0.0."""
    return verdict.reward


REWARDS: Mapping[str, Reward] = {"outcome": outcome}


def find_reward(reward: Reward | str) -> Reward:
    """Resolve a reward: a short name, `module:attribute`, or a callable.

    Raises RewardError, and UnknownNameError.
    """
    found: Reward = resolve(reward, REWARDS, kind="reward") if isinstance(reward, str) else reward
    if callable(found):
        return found
    raise RewardError(f"the reward {reward!r} is no function of a verdict")


def rewarded(reward: Reward, verdict: Verdict) -> float:
    """Apply a reward. Raises RewardError when the result is not a finite number."""
    value: object = reward(verdict)
    if isinstance(value, Real) and math.isfinite(value):
        return float(value)
    name = getattr(reward, "__qualname__", repr(reward))
    raise RewardError(f"the reward {name} gave {value!r}, which is no finite number")
