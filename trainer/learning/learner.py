"""The learner: optimiser steps on samples, and publication of the new weights.

`Learner` is a plain class without Ray. `RemoteLearner` (`actor.py`) runs a learner in its own Ray actor, with
a deadline on every call.

One call of `step` is one optimiser step: forward and backward per micro-batch, whose gradients add up to that
of the whole batch, then gradient clipping, then the weight update. A step whose gradient is not finite is
skipped and counted.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sandboxes.names import resolve

from ..algorithms.losses import (
    Loss,
    LossInputs,
    LossOutputs,
    add_sums,
    entropy_bonus,
    kl_to_reference,
    per_token,
)
from ..config import Config
from ..config_names import LOSSES
from ..data.batch import Batch, MicroBatch, make_batch
from ..data.samples import Sample
from ..engine.client import EngineClient, FileSender
from ..engine.weights import WeightProbe
from .compiling import compiled, compiles
from .gradients import Gradients, threads_at_once
from .model import Scores, load_model, load_weights, save_model, score
from .optimizer import make_optimizer
from .packing import enable_packing
from .phase import PHASES, PhaseName

Metrics = dict[str, float]
PROBE_TOKENS = 64
"""Ids of the sequence that checks every weight transfer, drawn at random and the same in every run."""


class LearnerError(Exception):
    """The learner failed or did not answer in time. One sentence."""


class Learner:
    """Owns the weights, the optimiser and the weight version."""

    def __init__(self, config: Config, folder: str | Path) -> None:
        """Load the model in `folder` and start the RL phase. Raises `ModelError`."""
        self.config = config
        self.version = 0
        """Number of updates that the weights have had."""
        self._torn = False
        self.skipped = 0
        """Number of updates skipped because their gradient was not finite."""
        self._source = Path(folder)
        self._device = _device(config.learner.device)
        torch.manual_seed(config.seed)
        self.model: Any = load_model(
            folder, device=self._device, checkpointing=config.learner.activation_checkpointing
        )
        threads = threads_at_once(config, self.model, self._device)
        if self._device.type == "cpu":
            torch.set_num_threads(config.learner.cpu_threads if threads == 1 else 1)
        self._gradients = Gradients(tuple(self.model.parameters()), threads)
        self._packed = self._packs()
        self._body: Any = compiled(self.model) if compiles(config, self._device) else None
        self._sender: FileSender | None = None
        vocabulary = self.model.get_input_embeddings().weight.shape[0]
        drawn = torch.randint(vocabulary, (PROBE_TOKENS,), generator=torch.Generator().manual_seed(0))
        self._probe_ids: tuple[int, ...] = tuple(drawn.tolist())
        self._published = self._probed()
        self.start("rl")

    def start(self, phase: PhaseName) -> None:
        """Start a phase with a new optimiser. With `rl.kl` above 0, RL copies the policy as its reference."""
        self._enter(phase)
        self._reference: Any = self._frozen(copy.deepcopy(self.model)) if self.phase.kl > 0 else None

    def step(
        self, samples: Sequence[Sample], loss: str | Loss = "policy_gradient", progress: float = 0.0
    ) -> Metrics:
        """Make one optimiser step; `loss` is a name (`rl.loss`) or a function.

        `progress` (0 to 1) is the finished part of the phase and drives the learning rate.

        Tokens of the learner's own weight version are on policy. With `rl.minibatches` above 1 the first
        update of a step is on policy; later updates are off policy, since every update raises the version,
        and are bounded by clipping.
        """
        function: Loss = resolve(loss, LOSSES, kind="loss") if isinstance(loss, str) else loss
        known = [version for sample in samples if (version := sample.oldest_version) is not None]
        staleness = float(self.version - min(known, default=self.version))
        metrics = self._optimise(self._batch(samples), function, self.phase.rate(progress))
        return {**metrics, "staleness": staleness}

    def weight_version(self) -> int:
        """Version of the weights; -1 after an update that failed half-way."""
        return -1 if self._torn else self.version

    def score(self, samples: Sequence[Sample]) -> list[list[float]]:
        """Log-probabilities of every sample's sampled tokens under the current weights."""
        results: list[list[float]] = []
        with torch.no_grad():
            for sample in samples:
                part = self._batch([sample]).micro_batches[0].to(self._device)
                results.append(self._scores(part).logprobs_N.tolist())
        return results

    def connect(self, engine: EngineClient, scratch: str | Path) -> None:
        """Publish to this engine from now on; `scratch` is the folder for weight files."""
        self._sender = FileSender(engine, self.model, Path(scratch))

    def publish(self, *, timeout_s: float) -> int:
        """Load the current weights into the engine; returns their version.

        The engine then scores fixed ids, and must agree with the learner's new log-probabilities and not with
        those of the weights it had before: at first the model folder's. Raises `PolicyError`, `WeightError`.
        """
        assert self._sender is not None, "call connect before publish"
        self._sender.send(self.version, timeout_s=timeout_s, canary=self._probe())
        return self.version

    def save(self, folder: str | Path) -> None:
        """Write the complete state; `folder/model` is a model folder for vLLM or transformers."""
        folder = Path(folder)
        save_model(self.model, folder / "model", tokenizer_from=self._source)
        if self._reference is not None:
            save_model(self._reference, folder / "reference")
        state = {
            "phase": self._phase_name,
            "version": self.version,
            "skipped": self.skipped,
            "optimizer": self._optimizer.state_dict(),
            "rng": torch.get_rng_state(),
        }
        torch.save(state, folder / "learner.pt")

    def restore(self, folder: str | Path) -> None:
        """Load the state that `save` wrote."""
        folder = Path(folder)
        state = torch.load(folder / "learner.pt", map_location="cpu", weights_only=True)
        load_weights(self.model, folder / "model")  # in place: the sender refers to this model
        self._enter("sft" if state["phase"] == "warm_start" else state["phase"])
        self._optimizer.load_state_dict(state["optimizer"])
        reference = folder / "reference"
        self._reference = (
            self._frozen(load_model(reference, device=self._device)) if reference.exists() else None
        )
        if self._reference is not None and self._packed:
            enable_packing(self._reference)
        self.version, self.skipped = state["version"], state["skipped"]
        torch.set_rng_state(state["rng"])

    # one optimiser step ----------------------------------------------------------------------------------

    def _optimise(self, batch: Batch, function: Loss, factor: float) -> Metrics:
        start = time.perf_counter()
        sums: dict[str, float] = {}
        total = 0.0
        self._optimizer.zero_grad()
        parts = (part.to(self._device) for part in batch.micro_batches)
        for outputs in self._gradients.add(parts, lambda part: self._loss(part, function)):
            total += float(outputs.loss.detach())
            add_sums(sums, outputs.sums)
        norm = float(
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.learner.max_grad_norm)
        )
        if math.isfinite(norm):
            self._torn = True
            self._optimizer.step(factor)
            self._torn = False
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

    def _loss(self, part: MicroBatch, function: Loss) -> LossOutputs:
        """The loss of a micro-batch plus the phase's KL and entropy terms."""
        phase, scores = self.phase, self._scores(part)
        reference_N = self._reference_logprobs(part) if self._reference is not None else None
        inputs = LossInputs(
            scores.logprobs_N,
            part.behaviour_logprobs_N,
            part.advantages_N,
            part.weights_N,
            part.versions_N,
            part.rows_N,
            scores.entropy_N,
            self.version,
            reference_N,
            phase.loss_settings,
        )
        total, sums = function(inputs)
        if reference_N is not None:
            distance, more = kl_to_reference(
                scores.logprobs_N, reference_N, part.weights_N, part.behaviour_logprobs_N
            )
            total, sums = total + phase.kl * distance, {**sums, **more}
        if scores.entropy_N is not None:
            if phase.entropy > 0:
                total = total + phase.entropy * entropy_bonus(scores.entropy_N, part.weights_N)
            sums = {**sums, "entropy": scores.entropy_N.detach().sum()}
        return LossOutputs(total, sums)

    def _scores(self, part: MicroBatch) -> Scores:
        # A program without gradient would be a second compilation, for the few calls of `score`.
        body = self._body if torch.is_grad_enabled() else None
        return self._scored(self.model, part, body=body, entropy=self.phase.entropy_use)

    def _reference_logprobs(self, part: MicroBatch) -> Tensor:
        with torch.no_grad():
            return self._scored(self._reference, part, entropy="none").logprobs_N

    def _scored(self, model: Any, part: MicroBatch, **options: Any) -> Scores:
        with self._autocast():
            return score(
                model,
                part.ids_BT,
                part.mask_BT,
                positions_BT=part.positions_BT,
                starts_S=part.starts_S,
                temperature=self.phase.temperature,
                **options,
            )

    def _autocast(self) -> AbstractContextManager[Any]:
        enabled = self.config.learner.dtype == "bfloat16"
        return torch.autocast(self._device.type, torch.bfloat16, enabled=enabled)

    def _batch(self, samples: Sequence[Sample]) -> Batch:
        return make_batch(
            samples,
            max_tokens=self._gradients.part_tokens(samples, self.config.learner.micro_batch_tokens),
            aggregation=self.phase.aggregation,
            constant=self.config.policy.context_tokens,
            packed=self._packed,
        )

    def _packs(self) -> bool:
        """Give the model the attention of packed rows where `learner.packing` asks for it and it can."""
        wanted = self.config.learner.packing
        works = bool(wanted) and self._device.type == "cpu" and enable_packing(self.model)
        if wanted is True and not works:
            raise LearnerError(
                "learner.packing = true, but only models that attend to all ids can be packed, and on a CPU; "
                'use "auto" or false'
            )
        return works

    def _probe(self) -> WeightProbe:
        """Log-probabilities of fixed ids, now and at the last transfer, to compare the engine's with."""
        before, self._published = self._published, self._probed()
        exact = self.config.engine.dtype == "float32"
        tolerance, rounding = (1e-3, 1e-6) if exact else (0.5, 5e-3)
        return WeightProbe(self._probe_ids, self._published, before, tolerance, rounding)

    def _probed(self) -> tuple[float, ...]:
        ids_BT = torch.tensor([self._probe_ids], device=self._device)
        mask_BT = torch.ones_like(ids_BT, dtype=torch.bool)
        mask_BT[:, 0] = False
        with torch.no_grad():
            return tuple(score(self.model, ids_BT, mask_BT).logprobs_N.tolist())

    def _enter(self, name: PhaseName) -> None:
        """Take over a phase's settings, with an optimiser that has no state yet."""
        phase = PHASES[name](self.config)
        self._phase_name, self.phase = name, phase
        self._optimizer = make_optimizer(
            self.model,
            kind=phase.optimizer,
            learning_rate=phase.learning_rate,
            muon_learning_rate=phase.muon_learning_rate,
            weight_decay=self.config.learner.weight_decay,
        )

    @staticmethod
    def _frozen(model: Any) -> Any:
        return model.eval().requires_grad_(False)


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise LearnerError('learner.device = "cuda", but torch sees no GPU; use "auto" or "cpu"')
    return torch.device(name)
