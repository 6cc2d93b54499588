"""The phases of a run, SFT and RL: optimiser, schedule and averaging of each.

`Learner.step` takes the loss as an argument, so that one phase may mix losses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..config import Config
from ..data.batch import Aggregation
from .model import EntropyUse
from .optimizer import Kind, rise_and_fall

PhaseName = Literal["sft", "rl"]


@dataclass(frozen=True)
class Phase:
    """Settings of the optimiser, of its schedule and of what is added to the loss."""

    optimizer: Kind
    learning_rate: float
    warmup: float
    """Part of the phase over which the learning rate rises."""
    final: float
    """Factor on the learning rate at the end."""
    hold: float = 0.0
    """Part of the phase after which the learning rate falls."""
    muon_learning_rate: float = 0.02
    temperature: float = 1.0
    """Temperature at which tokens are scored."""
    aggregation: Aggregation = "token_mean"
    kl: float = 0.0
    """Weight of the divergence from the policy at the start of the phase."""
    entropy: float = 0.0
    """Weight of the entropy bonus."""
    measures_entropy: bool = False
    """Whether the entropy is logged without a bonus, too: a pass over the logits, without gradient."""
    loss_settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def entropy_use(self) -> EntropyUse:
        """What the entropy of scored tokens is wanted for."""
        return "gradient" if self.entropy > 0 else "value" if self.measures_entropy else "none"

    def rate(self, progress: float) -> float:
        """Factor on the learning rate at `progress` (0 to 1)."""
        return rise_and_fall(progress, warmup=self.warmup, final=self.final, hold=self.hold)


def sft_phase(config: Config) -> Phase:
    """Supervised fine-tuning, as `[sft]` asks for."""
    sft = config.sft
    # Three quarters at full speed, then down: decaying from the start learned less in the same time.
    return Phase(
        optimizer=sft.optimizer,
        learning_rate=sft.learning_rate,
        muon_learning_rate=sft.muon_learning_rate,
        warmup=sft.warmup,
        hold=0.75,
        final=0.03,
    )


def rl_phase(config: Config) -> Phase:
    """Reinforcement learning, as `[rl]` asks for."""
    rl = config.rl
    return Phase(
        optimizer="adamw",
        learning_rate=rl.learning_rate,
        warmup=rl.warmup_steps / max(1, rl.steps),
        final=rl.final_learning_rate,
        temperature=config.policy.temperature,
        aggregation=rl.aggregation,
        kl=rl.kl,
        entropy=rl.entropy,
        measures_entropy=True,  # a policy that collapses shows there first
        loss_settings=rl.loss_settings,
    )


PHASES: Mapping[PhaseName, Callable[[Config], Phase]] = {"sft": sft_phase, "rl": rl_phase}
