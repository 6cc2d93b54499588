"""Losses as pure functions over the N sampled tokens of a micro-batch.

Each returns `(loss, sums)`: the loss is a plain sum of weighted tokens (`batch.py` makes the weights, over
the whole batch), and `sums` are unweighted sums over tokens, or maxima where the name ends in `_max`, which
the learner adds up over micro-batches and divides by the number of tokens.

Notation: p is the learner now, q the engine that sampled, A the advantage, r = p / q.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

Sums = dict[str, Tensor]
LOG_RATIO_LIMIT = 20.0
"""exp(20) is finite in float32 with room to spare; a ratio this far out carries no information anyway."""


def policy_gradient(
    logprobs_N: Tensor,
    sampler_logprobs_N: Tensor,
    advantages_N: Tensor,
    weights_N: Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    truncate: float = 2.0,
    on_policy: bool = False,
) -> tuple[Tensor, Sums]:
    """Raise the probability of tokens with positive advantage.

    On policy (one update per batch): `-A · min(r, truncate) · log p`, the ratio held constant. It only makes
    up for the engine and the learner computing slightly different probabilities (truncated importance
    sampling).

    Otherwise PPO's clipped objective, `-min(r A, clip(r, 1 - clip_low, 1 + clip_high) A)` (arXiv 1707.06347;
    unequal bounds: arXiv 2503.14476), bounded for negative A at `truncate · |A|`, where PPO itself has no
    bound (dual clip, arXiv 1912.09729).
    """
    log_ratio_N = (logprobs_N - sampler_logprobs_N).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    if on_policy:
        correction_N = log_ratio_N.detach().exp().clamp(max=truncate)
        # exp(x - x) is 1 and has the gradient of x: a value like PPO's, the gradient of REINFORCE.
        objective_N = advantages_N * correction_N * (logprobs_N - logprobs_N.detach()).exp()
        clipped_N = log_ratio_N.detach().exp() > truncate
    else:
        ratio_N = log_ratio_N.exp()
        plain_N = ratio_N * advantages_N
        bounded_N = ratio_N.clamp(1 - clip_low, 1 + clip_high) * advantages_N
        objective_N = torch.minimum(plain_N, bounded_N)
        floor_N = advantages_N * truncate
        objective_N = torch.where(advantages_N < 0, torch.maximum(objective_N, floor_N), objective_N)
        clipped_N = (bounded_N < plain_N) | ((advantages_N < 0) & (ratio_N > truncate))
    loss = -(objective_N * weights_N).sum()
    sums = {"clip_fraction": clipped_N.float().sum(), **mismatch(logprobs_N, sampler_logprobs_N)}
    return loss, sums


def mismatch(logprobs_N: Tensor, sampler_logprobs_N: Tensor) -> Sums:
    """How far the learner's log-probabilities are from those the engine reported.

    With the same weights on both sides this is rounding; anything else is a bug in masks, temperature, caches
    or weight updates. It is therefore always on. `k3` estimates KL(q || p).
    """
    difference_N = (logprobs_N - sampler_logprobs_N).detach()
    ratio_N = difference_N.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()
    return {
        "mismatch_abs": difference_N.abs().sum(),
        "mismatch_abs_max": difference_N.abs().max() if difference_N.numel() else difference_N.sum(),
        "mismatch_k3": (ratio_N - 1 - difference_N).sum(),
        "ratio": ratio_N.sum(),
    }


def kl_to_reference(logprobs_N: Tensor, reference_N: Tensor, weights_N: Tensor) -> tuple[Tensor, Sums]:
    """Estimate KL(p || reference) per token: k3 = exp(d) - 1 - d with d = log reference - log p.

    Never negative, and low in variance (Schulman, "Approximating KL divergence", 2020).
    """
    difference_N = (reference_N.detach() - logprobs_N).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    k3_N = difference_N.exp() - 1 - difference_N
    return (k3_N * weights_N).sum(), {"kl": k3_N.detach().sum()}


def entropy_bonus(entropy_N: Tensor, weights_N: Tensor) -> tuple[Tensor, Sums]:
    """Negative entropy, so that adding it to the loss keeps the policy from narrowing."""
    return -(entropy_N * weights_N).sum(), {}


def negative_log_likelihood(logprobs_N: Tensor, weights_N: Tensor) -> tuple[Tensor, Sums]:
    """Supervised learning: make every token that was written likely."""
    return -(logprobs_N * weights_N).sum(), {"nll": -logprobs_N.detach().sum()}


def add_sums(total: dict[str, float], sums: Mapping[str, Tensor]) -> None:
    """Add a micro-batch's sums to a running total; maxima stay maxima."""
    for name, value in sums.items():
        if name.endswith("_max"):
            total[name] = max(total.get(name, 0.0), float(value))
        else:
            total[name] = total.get(name, 0.0) + float(value)


def per_token(total: Mapping[str, float], tokens: int) -> dict[str, float]:
    """Turn running totals into means; maxima stay."""
    return {name: value if name.endswith("_max") else value / max(1, tokens) for name, value in total.items()}
