"""Losses as pure functions over the N sampled tokens of a micro-batch.

Every loss has one signature, `Loss`. The loss is a plain sum of weighted tokens (`batch.py` makes the
weights, over the whole batch), and `sums` are unweighted sums over tokens, or maxima where the name ends in
`_max`, which the learner adds up over micro-batches and divides by the number of tokens.

    def reinforce(inputs: LossInputs) -> LossOutputs:
        return LossOutputs(-(inputs.advantages_N * inputs.logprobs_N * inputs.weights_N).sum(), {})

The learner adds `rl.kl` and `rl.entropy` to any loss. Notation: p is the learner now, q the behaviour policy
(the engine that sampled), A the advantage, r = p / q.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

Sums = Mapping[str, Tensor]
LOG_RATIO_LIMIT = 20.0
"""exp(20) is finite in float32 with room to spare; a ratio this far out carries no information anyway."""

KL_RATIO_LIMIT = 2.0
"""Largest importance weight of a token in the KL term."""


@dataclass(frozen=True)
class LossInputs:
    """The N sampled tokens of a micro-batch, in reading order, row by row. Every tensor is of shape (N,)."""

    logprobs_N: Tensor
    """log p, with gradient."""
    behaviour_logprobs_N: Tensor
    """log q, as reported when the token was sampled."""
    advantages_N: Tensor
    weights_N: Tensor
    """Weight of each token in the loss."""
    versions_N: Tensor
    """Weight version that sampled each token; -1 where unknown."""
    rows_N: Tensor
    """Sample of each token, numbered from 0, for losses over whole sequences."""
    entropy_N: Tensor | None
    """Entropy of p (nats), with gradient when `rl.entropy` is above 0; None in SFT, which computes none."""
    version: int = 0
    """Version of the learner's weights: a token of this version is on policy."""
    reference_logprobs_N: Tensor | None = None
    """log-probabilities under the policy at the start of RL, when `rl.kl` is above 0."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """`rl.loss_settings`."""


class LossOutputs(NamedTuple):
    """The scalar loss, and sums to log."""

    loss: Tensor
    sums: Sums


Loss = Callable[[LossInputs], LossOutputs]


def policy_gradient(inputs: LossInputs) -> LossOutputs:
    """Raise the probability of tokens with positive advantage.

    Tokens on policy (sampled by the very weights that learn): `-A · min(r, truncate_ratio) · log p`, the
    ratio held constant. This is REINFORCE (Williams, 1992) with truncated importance sampling (Ionides,
    2008), which only makes up for engine and learner computing slightly different probabilities.

    Other tokens: PPO's clipped objective, `-min(r A, clip(r, 1 - clip_low, 1 + clip_high) A)` (arXiv
    1707.06347; unequal bounds: arXiv 2503.14476), bounded for negative A at `dual_clip · |A|`, where PPO
    itself has no bound (arXiv 1912.09729).
    """
    names = ("clip_low", "clip_high", "truncate_ratio", "dual_clip")
    clip_low, clip_high, truncate, dual_clip = (inputs.settings[name] for name in names)
    logprobs_N, advantages_N = inputs.logprobs_N, inputs.advantages_N
    log_ratio_N = (logprobs_N - inputs.behaviour_logprobs_N).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    correction_N = log_ratio_N.detach().exp().clamp(max=truncate)
    # exp(x - x) is 1 and has the gradient of x: a value like PPO's, the gradient of REINFORCE.
    reinforce_N = advantages_N * correction_N * (logprobs_N - logprobs_N.detach()).exp()
    truncated_N = log_ratio_N.detach().exp() > truncate
    ratio_N = log_ratio_N.exp()
    plain_N = ratio_N * advantages_N
    bounded_N = ratio_N.clamp(1 - clip_low, 1 + clip_high) * advantages_N
    ppo_N = torch.minimum(plain_N, bounded_N)
    ppo_N = torch.where(advantages_N < 0, torch.maximum(ppo_N, advantages_N * dual_clip), ppo_N)
    clipped_N = (bounded_N < plain_N) | ((advantages_N < 0) & (ratio_N > dual_clip))
    on_policy_N = inputs.versions_N == inputs.version
    loss = -(torch.where(on_policy_N, reinforce_N, ppo_N) * inputs.weights_N).sum()
    clip_fraction = torch.where(on_policy_N, truncated_N, clipped_N).float().sum()
    return LossOutputs(
        loss, {"clip_fraction": clip_fraction, **mismatch(logprobs_N, inputs.behaviour_logprobs_N)}
    )


def nll(inputs: LossInputs) -> LossOutputs:
    """Negative log-likelihood of the sampled tokens: supervised learning, or behaviour cloning."""
    loss = -(inputs.logprobs_N * inputs.weights_N).sum()
    return LossOutputs(loss, {"nll": -inputs.logprobs_N.detach().sum()})


def weighted_nll(inputs: LossInputs) -> LossOutputs:
    """Negative log-likelihood, each token times its advantage, which is its weight here: for SFT samples."""
    loss_N = -inputs.logprobs_N * inputs.advantages_N
    return LossOutputs((loss_N * inputs.weights_N).sum(), {"nll": loss_N.detach().sum()})


def mismatch(logprobs_N: Tensor, behaviour_logprobs_N: Tensor) -> Sums:
    """Measure the distance of the learner's log-probabilities from the behaviour log-probs.

    With the same weights on both sides this is rounding; anything else is a bug in masks, temperature, caches
    or weight updates, so these sums are always measured. `k3` estimates KL(q || p).
    """
    difference_N = (logprobs_N - behaviour_logprobs_N).detach()
    ratio_N = difference_N.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()
    return {
        "mismatch_abs": difference_N.abs().sum(),
        "mismatch_abs_max": difference_N.abs().max() if difference_N.numel() else difference_N.sum(),
        "mismatch_k3": (ratio_N - 1 - difference_N).sum(),
        "ratio": ratio_N.sum(),
    }


def kl_to_reference(
    logprobs_N: Tensor, reference_N: Tensor, weights_N: Tensor, behaviour_logprobs_N: Tensor
) -> LossOutputs:
    """Estimate KL(p || reference) per token, with an estimate whose gradient is that of KL(p || reference).

    With d = log p - log reference, the loss is `w · d² / 2` (k2 in Schulman, "Approximating KL divergence",
    2020): its gradient `w · d · grad log p` has the expectation `grad KL(p || reference)` under p, while the
    gradient of the better known k3 has that of KL(reference || p). The weight `w = p / q`, held constant and
    at most `KL_RATIO_LIMIT`, makes up for samples of an older policy q. Logged is k3, which is low in
    variance.
    """
    difference_N = (logprobs_N - reference_N.detach()).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    log_ratio_N = (logprobs_N - behaviour_logprobs_N).detach()
    ratio_N = log_ratio_N.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp().clamp(max=KL_RATIO_LIMIT)
    k2_N = ratio_N * difference_N.square() / 2
    k3_N = (-difference_N.detach()).exp() - 1 + difference_N.detach()
    return LossOutputs((k2_N * weights_N).sum(), {"kl": k3_N.sum()})


def entropy_bonus(entropy_N: Tensor, weights_N: Tensor) -> Tensor:
    """Negative entropy; adding this term to the loss keeps the policy from collapsing."""
    return -(entropy_N * weights_N).sum()


def add_sums(total: dict[str, float], sums: Sums) -> None:
    """Add a micro-batch's sums to a running total; maxima stay maxima."""
    for name, value in sums.items():
        if name.endswith("_max"):
            total[name] = max(total.get(name, 0.0), float(value))
        else:
            total[name] = total.get(name, 0.0) + float(value)


def per_token(total: Mapping[str, float], tokens: int) -> dict[str, float]:
    """Turn running totals into means; maxima stay."""
    return {name: value if name.endswith("_max") else value / max(1, tokens) for name, value in total.items()}
