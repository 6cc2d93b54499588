"""Rewards, advantages and losses as pure functions; an algorithm names one of each.

[reward]
mode = "my_package.rewards:short"          # RewardInputs -> one number per episode
[rl]
advantage = "leave_one_out"                # AdvantageInputs -> one number per member of a group
loss = "my_package.losses:reinforce"       # LossInputs -> LossOutputs
[rl.loss_settings]
scale = 2.0                                # the loss reads `inputs.settings["scale"]`
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandboxes.names import UnknownNameError, resolve

from ..config import Config, TrainError
from ..config_names import ADVANTAGES, LOSSES, REWARDS

if TYPE_CHECKING:
    from .advantages import Advantage
    from .losses import Loss
    from .rewards import RewardFunction


@dataclass(frozen=True)
class Algorithm:
    """The reward, advantage and loss of a run."""

    reward: RewardFunction
    advantage: Advantage
    loss: Loss

    @classmethod
    def of(cls, config: Config) -> Algorithm:
        """Look up the functions named in the configuration. Raises `TrainError` for a failed import."""
        try:
            return cls(
                resolve(config.reward.mode, REWARDS, kind="reward"),
                resolve(config.rl.advantage, ADVANTAGES, kind="advantage"),
                resolve(config.rl.loss, LOSSES, kind="loss"),
            )
        except UnknownNameError as error:
            raise TrainError(str(error)) from None
