"""Batches: how rows are cut and padded never changes what is learned."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from trainer.algorithms.losses import LossInputs, policy_gradient
from trainer.config import PolicyGradient
from trainer.data.batch import Aggregation, make_batch
from trainer.data.samples import Sample
from trainer.learning.model import load_model, score
from trainer.learning.packing import enable_packing

pytestmark = pytest.mark.train
AGGREGATIONS: list[Aggregation] = ["token_mean", "sequence_mean", "sequence_sum"]


def rows(count: int = 7, *, longest: int = 20, seed: int = 0) -> list[Sample]:
    """Ragged rows with ragged masks, one of them with a single sampled token."""
    chance = random.Random(seed)
    made = []
    for number in range(count):
        length = chance.randint(4, longest)
        mask = (False, *(chance.random() < 0.5 for _ in range(length - 2)), True)
        if number == 2:
            mask = (*(False,) * (length - 1), True)
        ids = tuple(chance.randrange(32) for _ in range(length))
        logprobs = tuple(-3.4 if kept else 0.0 for kept in mask)
        versions = tuple(0 if kept else -1 for kept in mask)
        made.append(Sample.of(ids, mask, logprobs, versions, chance.uniform(-1, 1), trajectory=f"t{number}"))
    return made


def gradient(model, samples, *, max_tokens: int, aggregation: Aggregation, **layout):
    model.zero_grad()
    batch = make_batch(samples, max_tokens=max_tokens, aggregation=aggregation, constant=64, **layout)
    for part in batch.micro_batches:
        scores = score(
            model, part.ids_BT, part.mask_BT, positions_BT=part.positions_BT, starts_S=part.starts_S
        )
        inputs = LossInputs(
            scores.logprobs_N,
            part.behaviour_logprobs_N,
            part.advantages_N,
            part.weights_N,
            part.versions_N,
            part.rows_N,
            scores.entropy_N,
            version=1,
            settings=PolicyGradient().model_dump(),
        )
        policy_gradient(inputs).loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).clone()


@pytest.fixture(scope="module")
def model(toy_model: Path):
    return load_model(toy_model)


@pytest.fixture(scope="module")
def packing_model(toy_model: Path):
    model = load_model(toy_model)
    assert enable_packing(model)
    return model


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_micro_batches_order_and_padding_never_change_the_gradient(model, aggregation: Aggregation) -> None:
    samples = rows()
    whole = gradient(model, samples, max_tokens=10_000, aggregation=aggregation)
    assert whole.abs().max() > 0
    for max_tokens in (1, 25, 60):
        cut = gradient(model, samples, max_tokens=max_tokens, aggregation=aggregation)
        assert torch.allclose(whole, cut, rtol=1e-4, atol=1e-6 * whole.abs().max())
    turned = gradient(model, samples[::-1], max_tokens=40, aggregation=aggregation, multiple=16)
    assert torch.allclose(whole, turned, rtol=1e-4, atol=1e-6 * whole.abs().max())


def test_the_gradient_is_that_of_the_formula_written_out(model) -> None:
    samples = rows(3)
    total = sum(sample.sampled for sample in samples)
    model.zero_grad()
    loss = torch.zeros(())
    for sample in samples:
        logits_TV = model(torch.tensor(sample.ids)[None]).logits[0].float().log_softmax(-1)
        for t, kept in enumerate(sample.mask):
            if kept:
                logprob = logits_TV[t - 1, sample.ids[t]]
                advantage = sample.advantages[t]
                ratio = (logprob - sample.logprobs[t]).exp()
                objective = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.28) * advantage)
                if advantage < 0:
                    objective = objective.clamp(min=2 * advantage)
                loss = loss - objective / total
    loss.backward()
    by_hand = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).clone()
    ours = gradient(model, samples, max_tokens=30, aggregation="token_mean")
    assert torch.allclose(ours, by_hand, rtol=1e-4, atol=1e-6 * by_hand.abs().max())


def test_weights_sum_to_one_however_the_rows_are_cut() -> None:
    for max_tokens in (1, 30, 1000):
        batch = make_batch(rows(), max_tokens=max_tokens, aggregation="token_mean")
        assert sum(float(part.weights_N.sum()) for part in batch.micro_batches) == pytest.approx(1.0)
        batch = make_batch(rows(), max_tokens=max_tokens, aggregation="sequence_mean")
        assert sum(float(part.weights_N.sum()) for part in batch.micro_batches) == pytest.approx(1.0)


def test_micro_batches_stay_within_their_tokens_and_lose_nothing() -> None:
    samples = rows(20)
    batch = make_batch(samples, max_tokens=50)
    assert len(batch.micro_batches) > 1
    assert all(part.ids_BT.numel() <= 50 for part in batch.micro_batches)
    assert sum(int(part.mask_BT.sum()) for part in batch.micro_batches) == batch.sampled_tokens
    assert batch.tokens == sum(len(sample.ids) for sample in samples)
    for part in batch.micro_batches:
        assert int(part.mask_BT.sum()) == len(part.advantages_N) == len(part.behaviour_logprobs_N)


def test_one_row_never_leaks_into_another(model) -> None:
    first, second = rows(2, longest=12)
    batch = make_batch([first, second], max_tokens=1000)
    (part,) = batch.micro_batches
    before = score(model, part.ids_BT, part.mask_BT).logprobs_N
    rowwise = part.mask_BT.sum(1).tolist()
    changed = part.ids_BT.clone()
    changed[0] = (changed[0] + 1) % 32
    after = score(model, changed, part.mask_BT).logprobs_N
    assert torch.equal(before[rowwise[0] :], after[rowwise[0] :])
    assert not torch.equal(before[: rowwise[0]], after[: rowwise[0]])


def test_every_token_keeps_its_row_version_and_advantage() -> None:
    first = Sample.of([1, 2, 3], [False, True, True], versions=[-1, 4, 5], advantages=[0.0, 0.5, -0.5])
    second = Sample.of([1, 2, 3, 4], [False, False, True, False], versions=[-1, -1, 6, -1])
    (part,) = make_batch([second, first], max_tokens=100).micro_batches
    assert part.rows_N.tolist() == [0, 0, 1]
    assert part.versions_N.tolist() == [4, 5, 6]
    assert part.advantages_N.tolist() == [0.5, -0.5, 1.0]


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@given(
    seed=st.integers(0, 10_000), count=st.integers(1, 9), longest=st.integers(4, 60), cut=st.integers(1, 200)
)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_packed_samples_have_the_gradient_of_each_alone(
    packing_model, aggregation: Aggregation, seed: int, count: int, longest: int, cut: int
) -> None:
    samples = rows(count, longest=longest, seed=seed)
    packed = gradient(packing_model, samples, max_tokens=cut, aggregation=aggregation, packed=True)
    alone = gradient(packing_model, samples, max_tokens=1, aggregation=aggregation)
    assert float((packed - alone).norm()) <= 1e-5 * float(alone.norm())


def test_packed_samples_are_padded_by_nothing_and_lose_nothing() -> None:
    samples = rows(20)
    batch = make_batch(samples, max_tokens=50, packed=True)
    assert batch.padded_tokens == batch.tokens == sum(len(sample.ids) for sample in samples)
    assert all(part.ids_BT.shape[1] <= 50 for part in batch.micro_batches)
    for part in batch.micro_batches:
        assert part.positions_BT is not None and part.starts_S is not None
        starts = part.starts_S.tolist()
        assert [start for start, place in enumerate(part.positions_BT[0]) if place == 0] == starts[:-1]
        assert starts[-1] == part.ids_BT.shape[1]
        assert part.rows_N.unique().tolist() == list(range(len(starts) - 1))


def test_one_packed_sample_never_leaks_into_another(packing_model) -> None:
    (part,) = make_batch(rows(2, longest=12), max_tokens=1000, packed=True).micro_batches
    assert part.starts_S is not None
    second = part.rows_N == 1

    def scored(ids):
        layout: dict = {"positions_BT": part.positions_BT, "starts_S": part.starts_S}
        return score(packing_model, ids, part.mask_BT, **layout).logprobs_N

    changed = part.ids_BT.clone()
    changed[0, : int(part.starts_S[1])] = (changed[0, : int(part.starts_S[1])] + 1) % 32
    before, after = scored(part.ids_BT), scored(changed)
    assert torch.equal(before[second], after[second])
    assert not torch.equal(before[~second], after[~second])
