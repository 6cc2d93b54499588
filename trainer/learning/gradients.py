"""The gradient of a batch, one micro-batch after the other or, on a CPU, several at once in threads.

The operations of a small model are too short for threads to share them: on two cores, two micro-batches at
once take three quarters of the time of one after the other with two threads in every operation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from ..algorithms.losses import LossOutputs
from ..config import Config
from ..data.batch import MicroBatch
from ..data.samples import Sample

SMALL = 20_000_000
"""Most parameters of a model whose micro-batches are computed at once; each then has its own activations."""

PartLoss = Callable[[MicroBatch], LossOutputs]
"""Computes the loss of a micro-batch."""


def threads_at_once(config: Config, model: Any, device: torch.device) -> int:
    """Return how many micro-batches to compute at once."""
    small = sum(weights.numel() for weights in model.parameters()) <= SMALL
    return config.learner.cpu_threads if device.type == "cpu" and small else 1


class Gradients:
    """Adds the gradients of micro-batches to those of the parameters, always in the order of the batch."""

    def __init__(self, parameters: Sequence[Tensor], threads: int) -> None:
        """Compute `threads` micro-batches at once."""
        self._parameters, self._threads = parameters, threads
        self._pool: ThreadPoolExecutor | None = None
        if threads > 1:
            self._pool = ThreadPoolExecutor(threads, "gradients", torch.set_num_threads, (1,))

    def part_tokens(self, samples: Sequence[Sample], most: int) -> int:
        """Return the most tokens of a micro-batch: at most `most`, and few enough to occupy all threads."""
        total = sum(len(sample.ids) for sample in samples)
        return most if self._pool is None else min(most, -(-total // (2 * self._threads)))

    def add(self, parts: Iterator[MicroBatch], loss: PartLoss) -> Iterator[LossOutputs]:
        """Yield the losses of the micro-batches, each after its gradient was added."""
        if self._pool is None:
            for part in parts:
                outputs = loss(part)
                outputs.loss.backward()
                yield outputs
            return

        def differentiate(part: MicroBatch) -> tuple[LossOutputs, tuple[Tensor | None, ...]]:
            outputs = loss(part)
            return outputs, torch.autograd.grad(outputs.loss, self._parameters, allow_unused=True)

        for outputs, gradients in self._pool.map(differentiate, parts):
            for weights, gradient in zip(self._parameters, gradients, strict=True):
                if gradient is not None:
                    weights.grad = gradient if weights.grad is None else weights.grad.add_(gradient)
            yield outputs
