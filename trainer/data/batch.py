"""Samples into tensors, in micro-batches that hold a bounded number of tokens.

Samples are padded to rows of one length, or packed: laid end to end in a single row, without padding
(`trainer.learning.packing`). Padded rows are padded on the right. Attention is causal, so no real token ever
sees padding and no attention mask is needed. Every token carries its weight in the loss, computed over the
whole batch before the first backward: the loss is a plain sum, and how samples are cut into micro-batches
cannot change the gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .samples import Sample

Aggregation = Literal["token_mean", "sequence_mean", "sequence_sum"]


@dataclass(frozen=True)
class MicroBatch:
    """Rows for one forward and backward: B rows of T tokens, of which N in all were sampled.

    The N sampled tokens are in reading order, row by row. When packed, B is 1.
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
    """Sample, numbered from 0 in this micro-batch, that each token is of; its row when padded."""
    positions_BT: Tensor | None = None
    """When packed, place of each id in its own sample."""
    starts_S: Tensor | None = None
    """When packed, place of the first id of every sample, and T at the end."""

    def to(self, device: torch.device) -> MicroBatch:
        """Copy to a device."""
        moved: dict[str, Any] = {}
        for field in fields(self):
            tensor = getattr(self, field.name)
            moved[field.name] = None if tensor is None else tensor.to(device)
        return MicroBatch(**moved)


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
    packed: bool = False,
) -> Batch:
    """Distribute samples over micro-batches of at most `max_tokens` tokens, padding included.

    Lengths are padded to a multiple of `multiple`, or not at all when `packed`. A sample longer than
    `max_tokens` gets a micro-batch of its own. `constant` is the divisor of `sequence_sum`.
    """
    assert samples, "a batch needs at least one sample"
    # Neighbours in length share a micro-batch, which keeps padding small; ties keep their order.
    order = sorted(samples, key=lambda sample: len(sample.ids))
    total = sum(sample.sampled for sample in samples)
    weights = [_token_weight(sample.sampled, total, len(samples), aggregation, constant) for sample in order]
    parts: list[list[tuple[Sample, float]]] = []
    filled = 0
    for sample, weight in zip(order, weights, strict=True):
        width = len(sample.ids) if packed else _padded(len(sample.ids), multiple)
        # Samples come in order of length: padded, all rows of the micro-batch become as wide as this one.
        filled = filled + width if packed or not parts else width * (len(parts[-1]) + 1)
        if not parts or filled > max_tokens:
            parts.append([])
            filled = width
        parts[-1].append((sample, weight))
    lay = _packed if packed else partial(_padded_rows, pad_id=pad_id, multiple=multiple)
    micro_batches = tuple(_micro_batch(part, *lay([sample for sample, _ in part])) for part in parts)
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


Layout = tuple[Tensor, Tensor, Tensor | None, Tensor | None]
"""Ids, mask, and of packed samples positions and starts."""


def _padded_rows(samples: Sequence[Sample], *, pad_id: int, multiple: int) -> Layout:
    """Give each sample a row of its own."""
    width = _padded(max(len(sample.ids) for sample in samples), multiple)
    ids_BT = torch.full((len(samples), width), pad_id, dtype=torch.long)
    mask_BT = torch.zeros((len(samples), width), dtype=torch.bool)
    for row, sample in enumerate(samples):
        ids_BT[row, : len(sample.ids)] = torch.tensor(sample.ids)
        mask_BT[row, : len(sample.ids)] = torch.tensor(sample.mask)
    return ids_BT, mask_BT, None, None


def _packed(samples: Sequence[Sample]) -> Layout:
    """Lay samples end to end in one row."""
    ids_T = np.concatenate([sample.ids for sample in samples])
    mask_T = np.concatenate([sample.mask for sample in samples])
    positions_T = np.concatenate([np.arange(len(sample.ids)) for sample in samples])
    starts_S = np.cumsum([0, *(len(sample.ids) for sample in samples)])
    ids_BT, mask_BT, positions_BT = (torch.from_numpy(a)[None] for a in (ids_T, mask_T, positions_T))
    return ids_BT, mask_BT, positions_BT, torch.from_numpy(starts_S)


def _micro_batch(
    part: Sequence[tuple[Sample, float]],
    ids_BT: Tensor,
    mask_BT: Tensor,
    positions_BT: Tensor | None,
    starts_S: Tensor | None,
) -> MicroBatch:
    samples = [sample for sample, _ in part]
    counts = [sample.sampled for sample in samples]

    def sampled(arrays: Sequence[NDArray], kind: torch.dtype) -> Tensor:
        picked = [array[sample.mask] for array, sample in zip(arrays, samples, strict=True)]
        return torch.tensor(np.concatenate(picked), dtype=kind)

    return MicroBatch(
        ids_BT,
        mask_BT,
        behaviour_logprobs_N=sampled([sample.logprobs for sample in samples], torch.float32),
        advantages_N=sampled([sample.advantages for sample in samples], torch.float32),
        weights_N=torch.tensor(np.repeat([weight for _, weight in part], counts), dtype=torch.float32),
        versions_N=sampled([sample.versions for sample in samples], torch.long),
        rows_N=torch.tensor(np.repeat(np.arange(len(part)), counts)),
        positions_BT=positions_BT,
        starts_S=starts_S,
    )
