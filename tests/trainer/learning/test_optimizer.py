"""Which optimiser gets which weights, and how the learning rate moves."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from trainer.learning.model import load_model
from trainer.learning.optimizer import make_optimizer, rise_and_fall

pytestmark = pytest.mark.train


def test_the_learning_rate_rises_holds_and_falls() -> None:
    factors = [
        rise_and_fall(done, warmup=0.1, hold=0.5, final=0.2) for done in (0, 0.05, 0.1, 0.5, 0.75, 1, 2)
    ]
    assert factors == pytest.approx([0, 0.5, 1, 1, 0.6, 0.2, 0.2])
    assert rise_and_fall(0.0, warmup=0.0, final=1.0) == 1.0
    assert rise_and_fall(1.0, warmup=0.0, final=0.0) == 0.0


def test_muon_gets_the_matrices_inside_and_adamw_all_else(toy_model: Path) -> None:
    model = load_model(toy_model)
    optimizer = make_optimizer(model, kind="muon", learning_rate=0.0, muon_learning_rate=0.02)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model(torch.arange(8)[None]).logits.logsumexp(-1).sum().backward()
    optimizer.step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if "layers" in name and before[name].ndim == 2}
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_an_optimiser_goes_on_exactly_from_its_state(toy_model: Path, kind) -> None:
    def steps(model, optimizer, count: int) -> None:
        for number in range(count):
            model(torch.arange(8)[None] + number).logits.logsumexp(-1).sum().backward()
            optimizer.step(0.5)

    straight = load_model(toy_model)
    steps(straight, optimizer := make_optimizer(straight, kind=kind, learning_rate=1e-2), 2)
    other = load_model(toy_model)
    other.load_state_dict(straight.state_dict())
    resumed = make_optimizer(other, kind=kind, learning_rate=1e-2)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    steps(straight, optimizer, 2)
    steps(other, resumed, 2)
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), other.parameters(), strict=True))
