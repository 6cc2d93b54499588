"""Measure the learner's tokens per second through forward and backward on this machine.

The samples are as long as episodes on practice repositories are, 70 to 700 tokens and 220 in the median. A
third of their tokens count as sampled, as in an episode whose observations are longer than its actions.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import torch

from sandboxes.progress import Progress, silent
from trainer.data.batch import Batch, make_batch
from trainer.data.samples import Sample
from trainer.learning.compiling import compiled
from trainer.learning.model import score
from trainer.learning.packing import enable_packing

SIZES: dict[str, dict[str, Any]] = {
    "1.3M": {"hidden_size": 160, "num_hidden_layers": 4, "num_attention_heads": 5, "intermediate_size": 448},
    "4M": {"hidden_size": 256, "num_hidden_layers": 5, "num_attention_heads": 8, "intermediate_size": 704},
}


@dataclass
class Variant:
    """One way to compute the same gradient, and the seconds that its passes took."""

    compiled: bool
    packed: bool
    bfloat16: bool
    once: Callable[[], object]
    batch: Batch
    first_s: float = 0.0
    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Name for a table, such as `eager, padded, float32`."""
        dtype = "bfloat16" if self.bfloat16 else "float32"
        body, rows = "compiled" if self.compiled else "eager", "packed" if self.packed else "padded"
        return f"{body}, {rows}, {dtype}"


def measure(
    *,
    size: str = "1.3M",
    batch_tokens: int = 8192,
    micro_batch_tokens: int = 4096,
    threads: int = 2,
    vocabulary: int = 900,
    rounds: int = 10,
    progress: Progress = silent,
) -> dict[str, dict[str, Any]]:
    """Time forward and backward of a batch on the CPU: eager or compiled, padded or packed, in two types.

    After a first pass (`first_s`, compilation included) the variants take turns, so that other load on the
    machine meets all of them. Figures are of each variant's fastest half: `tokens_per_s` by the clock,
    `tokens_per_cpu_s` by this process's CPU time. Padding counts as no token. `programs` is the number of
    graphs that were compiled for the variant.
    """
    torch.manual_seed(0)
    torch._dynamo.reset()  # programs of other models in this process would fit, and count as none
    model = _random_model(size, vocabulary).train()
    if not enable_packing(model):
        raise RuntimeError("this version of transformers does not take the attention of packed rows")
    samples = ragged_samples(batch_tokens, vocabulary)
    fast = compiled(model)
    variants: list[Variant] = []
    programs: dict[str, int] = {}
    with _threads(threads):
        for number, choice in enumerate(product((False, True), repeat=3)):
            variant = _variant(model, fast, samples, micro_batch_tokens, *choice)
            progress("measuring the learner", number, 8 + rounds)
            before = _programs()
            variant.first_s = _timed(variant.once)[0]
            programs[variant.name] = _programs() - before
            variants.append(variant)
        for number in range(rounds):
            progress("measuring the learner", 8 + number, 8 + rounds)
            for variant in variants:
                wall_s, cpu_s = _timed(variant.once)
                variant.wall_s.append(wall_s)
                variant.cpu_s.append(cpu_s)
    progress("measuring the learner", 8 + rounds, 8 + rounds)
    return {variant.name: {**_figures(variant), "programs": programs[variant.name]} for variant in variants}


def ragged_samples(tokens: int, vocabulary: int) -> list[Sample]:
    """Draw samples of at least `tokens` ids together; the same in every call."""
    chance = random.Random(0)
    samples: list[Sample] = []
    while sum(len(sample.ids) for sample in samples) < tokens:
        length = min(700, max(70, round(chance.lognormvariate(5.4, 0.45))))
        mask = [place > 0 and chance.random() < 1 / 3 for place in range(length)]
        samples.append(Sample.of([chance.randrange(vocabulary) for _ in range(length)], mask))
    return samples


def _variant(model: Any, fast: Any, samples: list[Sample], size: int, *choice: bool) -> Variant:
    compile_body, packed, bfloat16 = choice
    batch = make_batch(samples, max_tokens=size, packed=packed)

    def once() -> None:
        for part in batch.micro_batches:
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                scores = score(
                    model,
                    part.ids_BT,
                    part.mask_BT,
                    positions_BT=part.positions_BT,
                    starts_S=part.starts_S,
                    body=fast if compile_body else None,
                    entropy="none",
                )
            (-scores.logprobs_N * part.weights_N).sum().backward()
        model.zero_grad()

    return Variant(compile_body, packed, bfloat16, once, batch)


def _timed(once: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds by the clock and of CPU time."""
    wall, cpu = time.perf_counter(), time.process_time()
    once()
    return time.perf_counter() - wall, time.process_time() - cpu


def _figures(variant: Variant) -> dict[str, Any]:
    def rate(seconds: list[float]) -> int:
        best = sorted(seconds)[: max(1, len(seconds) // 2)]
        return round(variant.batch.tokens * len(best) / sum(best))

    return {
        "tokens_per_s": rate(variant.wall_s),
        "tokens_per_cpu_s": rate(variant.cpu_s),
        "padding": round(1 - variant.batch.tokens / variant.batch.padded_tokens, 3),
        "first_s": round(variant.first_s, 1),
    }


def _programs() -> int:
    """Return the number of graphs that were compiled in this process."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _random_model(size: str, vocabulary: int) -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    shape = SIZES[size]
    config = Qwen3Config(
        **shape,
        vocab_size=vocabulary,
        head_dim=32,
        num_key_value_heads=shape["num_attention_heads"],
        tie_word_embeddings=True,
        max_position_embeddings=4096,
    )
    return Qwen3ForCausalLM(config)
