"""The learner: samples in, better weights out.

`Learner` is a plain class that runs in the process of whoever makes it. `RemoteLearner` is the same thing in
a Ray actor of its own, with a deadline on every call.

One call of `update` or `supervise` is one optimiser step: micro-batches are forwarded and backwarded one by
one, their gradients add up to that of the whole batch, the gradient is clipped, the weights move. A gradient
that is not finite is refused: the step is skipped, and counted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..algorithms.losses import (
    Sums,
    add_sums,
    entropy_bonus,
    kl_to_reference,
    negative_log_likelihood,
    per_token,
    policy_gradient,
)
from ..config import Config
from ..data.batch import Aggregation, Batch, MicroBatch, make_batch
from ..data.samples import Sample
from ..engine.client import EngineClient, FileSender
from ..engine.weights import WeightProbe
from .model import Scores, load_model, load_weights, save_model, score
from .optimizer import Optimizers, make_optimizer, rise_and_fall

Phase = Literal["warm_start", "rl"]
Metrics = dict[str, float]
CANARY_TOKENS = 64
"""Length of the sequence by which every weight update is checked."""


class LearnerError(Exception):
    """The learner failed or did not answer in time. One sentence."""


class Learner:
    """Owns the weights, the optimiser and the weight version."""

    def __init__(self, config: Config, folder: str | Path) -> None:
        """Load the model in `folder` and get ready to learn by reinforcement. Raises `ModelError`."""
        self.config = config
        self.version = 0
        """How many updates made the weights."""
        self.skipped = 0
        """Updates refused because their gradient was not finite."""
        self._source = Path(folder)
        self._device = _device(config.learner.device)
        if self._device.type == "cpu":
            torch.set_num_threads(config.learner.cpu_threads)
        torch.manual_seed(config.seed)
        self.model: Any = load_model(
            folder, device=self._device, checkpointing=config.learner.activation_checkpointing
        )
        self._sender: FileSender | None = None
        self._last: Sample | None = None
        self.begin("rl")

    def begin(self, phase: Phase) -> None:
        """Start a phase with a fresh optimiser.

        What RL is held close to (`rl.kl`) is the policy as it is now.
        """
        self.phase: Phase = phase
        self._optimizer = self._make_optimizer(phase)
        self._reference: Any = None
        if phase == "rl" and self.config.rl.kl > 0:
            self._reference = self._copy_of_model()

    def update(self, samples: Sequence[Sample], *, done: float = 0.0, on_policy: bool = True) -> Metrics:
        """Make one step of policy gradient.

        `done` (0 to 1) places the step on the learning-rate schedule. `on_policy` says that the weights have
        not moved since the samples were drawn, so that nothing needs clipping.
        """
        assert self.phase == "rl", "call begin('rl') before update"
        rl = self.config.rl
        batch = self._batch(samples)
        known = [version for sample in samples if (version := sample.oldest_version) is not None]
        staleness = float(self.version - min(known, default=self.version))

        def loss(part: MicroBatch, scores: Scores) -> tuple[Tensor, Sums]:
            total, sums = policy_gradient(
                scores.logprobs_N,
                part.sampler_logprobs_N,
                part.advantages_N,
                part.weights_N,
                clip_low=rl.clip_low,
                clip_high=rl.clip_high,
                truncate=rl.truncate_ratio,
                on_policy=on_policy,
            )
            if self._reference is not None:
                distance, more = kl_to_reference(
                    scores.logprobs_N, self._reference_logprobs(part), part.weights_N
                )
                total, sums = total + rl.kl * distance, {**sums, **more}
            if rl.entropy > 0:
                total = total + rl.entropy * entropy_bonus(scores.entropy_N, part.weights_N)[0]
            return total, {**sums, "entropy": scores.entropy_N.detach().sum()}

        warmup = rl.warmup_steps / max(1, rl.steps)
        factor = rise_and_fall(done, warmup=warmup, final=rl.final_learning_rate)
        metrics = self._step(batch, loss, factor, temperature=self.config.policy.temperature)
        return {**metrics, "staleness": staleness}

    def supervise(self, samples: Sequence[Sample], *, done: float = 0.0) -> Metrics:
        """Make one step of supervised learning on the sampled tokens."""
        assert self.phase == "warm_start", "call begin('warm_start') before supervise"
        batch = self._batch(samples, aggregation="token_mean")

        def loss(part: MicroBatch, scores: Scores) -> tuple[Tensor, Sums]:
            return negative_log_likelihood(scores.logprobs_N, part.weights_N)

        # Three quarters at full speed, then down: decaying from the start learned less in the same time.
        factor = rise_and_fall(done, warmup=self.config.warm_start.warmup, hold=0.75, final=0.03)
        return self._step(batch, loss, factor, temperature=1.0)

    def score(self, samples: Sequence[Sample]) -> list[list[float]]:
        """Log-probabilities of every sample's sampled tokens under the weights as they are now."""
        results: list[list[float]] = []
        with torch.no_grad():
            for sample in samples:
                part = self._batch([sample]).micro_batches[0].to(self._device)
                results.append(self._scores(part, self.config.policy.temperature).logprobs_N.tolist())
        return results

    def connect(self, engine: EngineClient, scratch: str | Path) -> None:
        """Send weights to this engine from now on; `scratch` is where files for it may lie."""
        self._sender = FileSender(engine, self.model, Path(scratch))

    def publish(self, *, timeout_s: float) -> int:
        """Have the engine sample from the weights as they are now; returns their version.

        The engine scores the start of the last sample and must agree with the learner about it. Raises
        `PolicyError` or `WeightError`.
        """
        assert self._sender is not None, "call connect before publish"
        self._sender.send(self.version, timeout_s=timeout_s, canary=self._canary())
        return self.version

    def save(self, folder: str | Path) -> None:
        """Write everything needed to go on exactly; `folder/model` is a model folder of its own."""
        folder = Path(folder)
        save_model(self.model, folder / "model", tokenizer_from=self._source)
        if self._reference is not None:
            save_model(self._reference, folder / "reference")
        state = {
            "phase": self.phase,
            "version": self.version,
            "skipped": self.skipped,
            "optimizer": self._optimizer.state_dict(),
            "rng": torch.get_rng_state(),
        }
        torch.save(state, folder / "learner.pt")

    def restore(self, folder: str | Path) -> None:
        """Go on from what `save` wrote."""
        folder = Path(folder)
        state = torch.load(folder / "learner.pt", map_location="cpu", weights_only=True)
        load_weights(self.model, folder / "model")  # in place: who holds the model keeps holding it
        self.phase = state["phase"]
        self._optimizer = self._make_optimizer(self.phase)
        self._optimizer.load_state_dict(state["optimizer"])
        reference = folder / "reference"
        self._reference = (
            self._frozen(load_model(reference, device=self._device)) if reference.exists() else None
        )
        self.version, self.skipped = state["version"], state["skipped"]
        torch.set_rng_state(state["rng"])

    # one optimiser step ----------------------------------------------------------------------------------

    def _step(
        self,
        batch: Batch,
        loss: Callable[[MicroBatch, Scores], tuple[Tensor, Sums]],
        factor: float,
        *,
        temperature: float,
    ) -> Metrics:
        start = time.perf_counter()
        sums: dict[str, float] = {}
        total = 0.0
        self._optimizer.zero_grad()
        for part in batch.micro_batches:
            moved = part.to(self._device)
            value, counted = loss(moved, self._scores(moved, temperature))
            value.backward()
            total += float(value.detach())
            add_sums(sums, counted)
        norm = float(
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.learner.max_grad_norm)
        )
        if math.isfinite(norm):
            self._optimizer.step(factor)
            self.version += 1
        else:
            self._optimizer.zero_grad()
            self.skipped += 1
        seconds = time.perf_counter() - start
        return {
            **per_token(sums, batch.sampled_tokens),
            "loss": total,
            "grad_norm": norm,
            "learning_rate_factor": factor,
            "skipped_updates": float(self.skipped),
            "sequences": float(batch.sequences),
            "sampled_tokens": float(batch.sampled_tokens),
            "tokens": float(batch.tokens),
            "padding": 1 - batch.tokens / batch.padded_tokens,
            "tokens_per_s": batch.tokens / seconds,
        }

    def _scores(self, part: MicroBatch, temperature: float) -> Scores:
        with self._autocast():
            return score(
                self.model,
                part.ids_BT,
                part.mask_BT,
                temperature=temperature,
                entropy_gradient=self.phase == "rl" and self.config.rl.entropy > 0,
            )

    def _reference_logprobs(self, part: MicroBatch) -> Tensor:
        with torch.no_grad(), self._autocast():
            return score(
                self._reference, part.ids_BT, part.mask_BT, temperature=self.config.policy.temperature
            ).logprobs_N

    def _autocast(self) -> AbstractContextManager[Any]:
        enabled = self.config.learner.dtype == "bfloat16"
        return torch.autocast(self._device.type, torch.bfloat16, enabled=enabled)

    def _batch(self, samples: Sequence[Sample], aggregation: Aggregation | None = None) -> Batch:
        self._last = samples[0]
        return make_batch(
            samples,
            max_tokens=self.config.learner.micro_batch_tokens,
            aggregation=aggregation or self.config.rl.aggregation,
            constant=self.config.policy.context_tokens,
        )

    def _canary(self) -> WeightProbe | None:
        """What the weights say about the start of a sequence that was really seen."""
        if self._last is None or len(self._last.ids) < 2:
            return None
        ids = self._last.ids[:CANARY_TOKENS]
        ids_BT = torch.tensor([ids], device=self._device)
        mask_BT = torch.ones_like(ids_BT, dtype=torch.bool)
        mask_BT[:, 0] = False
        with torch.no_grad():
            logprobs = score(self.model, ids_BT, mask_BT).logprobs_N.tolist()
        exact = self.config.engine.dtype == "float32"
        return WeightProbe(ids, tuple(logprobs), tolerance=1e-3 if exact else 0.5)

    def _make_optimizer(self, phase: Phase) -> Optimizers:
        warm, rl, decay = self.config.warm_start, self.config.rl, self.config.learner.weight_decay
        if phase == "rl":
            return make_optimizer(
                self.model, kind="adamw", learning_rate=rl.learning_rate, weight_decay=decay
            )
        return make_optimizer(
            self.model,
            kind=warm.optimizer,
            learning_rate=warm.learning_rate,
            muon_learning_rate=warm.muon_learning_rate,
            weight_decay=decay,
        )

    def _copy_of_model(self) -> Any:
        import copy

        return self._frozen(copy.deepcopy(self.model))

    @staticmethod
    def _frozen(model: Any) -> Any:
        return model.eval().requires_grad_(False)


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise LearnerError('learner.device = "cuda", but torch sees no GPU; use "auto" or "cpu"')
    return torch.device(name)
