"""Gradients of micro-batches at once are those of one after the other."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from trainer.algorithms.losses import LossOutputs
from trainer.data.batch import MicroBatch, make_batch
from trainer.data.samples import Sample
from trainer.learning import gradients
from trainer.learning.gradients import Gradients, threads_at_once
from trainer.learning.learner import Learner
from trainer.learning.model import load_model, score

pytestmark = pytest.mark.train
SAMPLES = [Sample.of([1, 2, *range(3, 4 + n)], [False, False, *[True] * (n + 1)]) for n in range(9)]


def total(model, threads: int, *, fail: bool = False) -> tuple[list, list[float], set[str]]:
    """Returns the summed gradients, the losses in order, and the names of the threads that computed them."""
    seen = set[str]()

    def loss(part: MicroBatch) -> LossOutputs:
        seen.add(threading.current_thread().name)
        if fail:
            raise ValueError("no loss today")
        return LossOutputs(-(score(model, part.ids_BT, part.mask_BT).logprobs_N * part.weights_N).sum(), {})

    parameters = tuple(model.parameters())
    for weights in parameters:
        weights.grad = None
    adder = Gradients(parameters, threads)
    parts = make_batch(SAMPLES, max_tokens=adder.part_tokens(SAMPLES, 1000)).micro_batches
    losses = [float(outputs.loss.detach()) for outputs in adder.add(iter(parts), loss)]
    return [weights.grad for weights in parameters], losses, seen


def test_threads_change_nothing_but_the_time(toy_model: Path) -> None:
    model = load_model(toy_model)
    alone, (whole,), here = total(model, 1)
    at_once, losses, there = total(model, 2)
    assert here == {threading.main_thread().name} and here.isdisjoint(there)
    assert len(losses) >= 2 and sum(losses) == pytest.approx(whole, rel=1e-5)
    for one, other in zip(alone, at_once, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)
    again, _, _ = total(model, 2)
    assert all(torch.equal(one, other) for one, other in zip(at_once, again, strict=True)), "order is fixed"


def test_a_failure_in_a_thread_is_raised(toy_model: Path) -> None:
    with pytest.raises(ValueError, match="no loss today"):
        total(load_model(toy_model), 2, fail=True)


def test_only_small_models_on_a_cpu_are_computed_at_once(
    toy_config, toy_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy_config(learner={"cpu_threads": 2})
    model = load_model(toy_model)
    assert threads_at_once(config, model, torch.device("cpu")) == 2
    assert threads_at_once(config, model, torch.device("cuda")) == 1
    monkeypatch.setattr(gradients, "SMALL", 100)
    assert threads_at_once(config, model, torch.device("cpu")) == 1


def test_a_learner_moves_as_far_with_threads_as_without(toy_config, toy_model: Path) -> None:
    moved = []
    for threads in (1, 2):
        learner = Learner(toy_config(learner={"cpu_threads": threads}), toy_model)
        metrics = learner.step(SAMPLES)
        moved.append((metrics["loss"], metrics["grad_norm"], metrics["sampled_tokens"]))
    assert moved[0] == pytest.approx(moved[1], rel=1e-4)
