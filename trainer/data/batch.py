"""Samples into padded tensors, in micro-batches that hold a bounded number of tokens.

Rows are padded on the right. Attention is causal, so no real token ever sees padding and no attention mask
is needed. Every token carries its weight in the loss, computed over the whole batch before the first
backward: the loss is a plain sum, and how rows are cut into micro-batches cannot change the gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .samples import Sample

Aggregation = Literal["token_mean", "sequence_mean", "sequence_sum"]


@dataclass(frozen=True)
class MicroBatch:
    """Rows for one forward and backward: B rows of T tokens, of which N in all were sampled.

    The N sampled tokens are in reading order, row by row.
    """

    ids_BT: Tensor
    mask_BT: Tensor
    """True on sampled ids; the id at t is predicted from the ids before t."""
    behaviour_logprobs_N: Tensor
    """Behaviour log-probabilities (nats), as the engine reported them."""
    advantages_N: Tensor
    weights_N: Tensor
    """Weight of each token in the loss; their sum is this micro-batch's share of the batch."""
    versions_N: Tensor
    """Weight version that sampled each token; -1 where unknown."""
    rows_N: Tensor
    """Row, from 0 to B - 1, that each token is in."""

    def to(self, device: torch.device) -> MicroBatch:
        """Copy to a device."""
        return MicroBatch(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


@dataclass(frozen=True)
class Batch:
    """The micro-batches of one optimiser step."""

    micro_batches: tuple[MicroBatch, ...]
    sequences: int
    sampled_tokens: int
    tokens: int
    """Real tokens, without padding."""
    padded_tokens: int
    """Tokens that are computed, padding included."""


def make_batch(
    samples: Sequence[Sample],
    *,
    max_tokens: int,
    aggregation: Aggregation = "token_mean",
    constant: int = 1,
    pad_id: int = 0,
    multiple: int = 1,
) -> Batch:
    """Pack samples into micro-batches of at most `max_tokens` padded tokens.

    Lengths are padded to a multiple of `multiple`, so that a compiled model meets few shapes. A row longer
    than `max_tokens` gets a micro-batch of its own. `constant` is the divisor of `sequence_sum`.
    """
    assert samples, "a batch needs at least one sample"
    # Neighbours in length share a micro-batch, which keeps padding small; ties keep their order.
    order = sorted(samples, key=lambda sample: len(sample.ids))
    total = sum(sample.sampled for sample in samples)
    weights = [_token_weight(sample.sampled, total, len(samples), aggregation, constant) for sample in order]
    rows: list[list[tuple[Sample, float]]] = []
    for sample, weight in zip(order, weights, strict=True):
        width = _padded(len(sample.ids), multiple)
        if not rows or width * (len(rows[-1]) + 1) > max_tokens:
            rows.append([])
        rows[-1].append((sample, weight))
    micro_batches = tuple(_micro_batch(part, pad_id, multiple) for part in rows)
    return Batch(
        micro_batches,
        sequences=len(samples),
        sampled_tokens=total,
        tokens=sum(len(sample.ids) for sample in samples),
        padded_tokens=sum(part.ids_BT.numel() for part in micro_batches),
    )


def _token_weight(sampled: int, total: int, sequences: int, aggregation: Aggregation, constant: int) -> float:
    """Weight of one of a sample's `sampled` tokens, from counts over the whole batch."""
    match aggregation:
        case "token_mean":
            return 1.0 / max(1, total)
        case "sequence_mean":
            return 1.0 / (sequences * max(1, sampled))
        case "sequence_sum":
            return 1.0 / (sequences * constant)


def _padded(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple


def _micro_batch(rows: Sequence[tuple[Sample, float]], pad_id: int, multiple: int) -> MicroBatch:
    width = _padded(max(len(sample.ids) for sample, _ in rows), multiple)
    ids_BT = torch.full((len(rows), width), pad_id, dtype=torch.long)
    mask_BT = torch.zeros((len(rows), width), dtype=torch.bool)
    for row, (sample, _) in enumerate(rows):
        ids_BT[row, : len(sample.ids)] = torch.tensor(sample.ids)
        mask_BT[row, : len(sample.ids)] = torch.tensor(sample.mask)
    samples = [sample for sample, _ in rows]
    counts = [sample.sampled for sample in samples]

    def sampled(arrays: Sequence[NDArray], kind: torch.dtype) -> Tensor:
        picked = [array[sample.mask] for array, sample in zip(arrays, samples, strict=True)]
        return torch.tensor(np.concatenate(picked), dtype=kind)

    return MicroBatch(
        ids_BT,
        mask_BT,
        behaviour_logprobs_N=sampled([sample.logprobs for sample in samples], torch.float32),
        advantages_N=sampled([sample.advantages for sample in samples], torch.float32),
        weights_N=torch.tensor(np.repeat([weight for _, weight in rows], counts), dtype=torch.float32),
        versions_N=sampled([sample.versions for sample in samples], torch.long),
        rows_N=torch.tensor(np.repeat(np.arange(len(rows)), counts)),
    )
