"""Short names of rewards, advantages and losses; `module:attribute` names a user's function."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import AfterValidator

from sandboxes.names import resolve

REWARDS = {
    "outcome": "trainer.algorithms.rewards:by_outcome",
    "random": "trainer.algorithms.rewards:by_chance",
    "format": "trainer.algorithms.rewards:by_format",
    "shuffled": "trainer.algorithms.rewards:by_shuffled_outcome",
    "constant": "trainer.algorithms.rewards:by_constant",
}
ADVANTAGES = {name: f"trainer.algorithms.advantages:{name}" for name in ("mean", "mean_std", "leave_one_out")}
LOSSES = {name: f"trainer.algorithms.losses:{name}" for name in ("policy_gradient", "nll")}


def name_in(known: Mapping[str, str], kind: str) -> AfterValidator:
    """Accept a name in `known`, or `module:attribute`, which is not imported here."""

    def check(name: str) -> str:
        if ":" not in name:
            resolve(name, dict.fromkeys(known, True), kind=kind)
        return name

    return AfterValidator(check)
