"""The learner: steps that move what they should, and none that must not be made."""

from __future__ import annotations

import dataclasses
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from trainer.algorithms.losses import LossInputs, LossOutputs
from trainer.data.samples import Sample
from trainer.learning.learner import Learner

pytestmark = pytest.mark.train


def drawn(learner: Learner, *, count: int = 6, seed: int = 0, version: int = 0) -> list[Sample]:
    """Rows whose log-probabilities are what the learner itself says, as a perfect engine would."""
    chance = random.Random(seed)
    rows = []
    for number in range(count):
        length = chance.randint(5, 20)
        mask = (False, *(chance.random() < 0.6 for _ in range(length - 2)), True)
        ids = tuple(chance.randrange(32) for _ in range(length))
        versions = tuple(version if kept else -1 for kept in mask)
        rows.append(Sample.of(ids, mask, 0.0, versions, chance.uniform(-1, 1), trajectory=f"t{number}"))
    known = []
    for row, logprobs in zip(rows, learner.score(rows), strict=True):
        behaviour = np.zeros(len(row.ids))
        behaviour[row.mask] = logprobs
        known.append(dataclasses.replace(row, logprobs=behaviour))
    return known


def weights(learner: Learner):
    return [parameter.detach().clone() for parameter in learner.model.parameters()]


def same(a, b) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.fixture
def learner(toy_config, toy_model: Path) -> Learner:
    return Learner(toy_config(), toy_model)


def test_on_policy_there_is_no_mismatch_and_nothing_is_clipped(learner: Learner) -> None:
    for _ in range(2):
        metrics = learner.step(drawn(learner, version=learner.version))
        assert metrics["mismatch_abs_max"] < 1e-5
        assert metrics["ratio"] == pytest.approx(1.0, abs=1e-5)
        assert metrics["clip_fraction"] == 0.0
        assert metrics["staleness"] == 0.0
        assert 0 < metrics["entropy"] < 3.5  # at most the logarithm of 32


@pytest.mark.parametrize("temperature", [0.7, 1.3])
def test_scores_are_taken_at_the_temperature_of_sampling(
    toy_config, toy_model: Path, temperature: float
) -> None:
    warm = Learner(toy_config(policy={"temperature": temperature}), toy_model)
    rows = drawn(warm)
    assert warm.step(rows)["mismatch_abs_max"] < 1e-5
    plain = Learner(toy_config(), toy_model)
    assert plain.step(rows)["mismatch_abs"] > 1e-3


def test_an_update_makes_good_tokens_likelier_and_bad_ones_less(learner: Learner) -> None:
    rows = drawn(learner)
    before = [sum(scores) for scores in learner.score(rows)]
    learner.step(rows)
    change = [sum(scores) - b for scores, b in zip(learner.score(rows), before, strict=True)]
    assert sum(c * row.advantages[0] for c, row in zip(change, rows, strict=True)) > 0
    assert learner.version == 1


def test_staleness_is_the_distance_to_the_oldest_version(learner: Learner) -> None:
    learner.step(drawn(learner))
    learner.step(drawn(learner))
    assert learner.step(drawn(learner, version=0))["staleness"] == 2.0


def test_a_gradient_that_is_not_finite_is_refused_and_counted(learner: Learner) -> None:
    rows = drawn(learner)
    before, state = weights(learner), rows[0]
    broken = [dataclasses.replace(state, advantages=state.advantages * float("nan")), *rows[1:]]
    metrics = learner.step(broken)
    assert metrics["skipped_updates"] == 1
    assert same(before, weights(learner))
    assert learner.version == 0
    metrics = learner.step(rows)
    assert metrics["skipped_updates"] == 1 and learner.version == 1
    assert not same(before, weights(learner))


def test_a_learning_rate_of_nothing_moves_nothing(toy_config, toy_model: Path) -> None:
    learner = Learner(toy_config(rl={"final_learning_rate": 0.0}), toy_model)
    before = weights(learner)
    assert learner.step(drawn(learner), progress=1.0)["learning_rate_factor"] == 0.0
    assert same(before, weights(learner))


def test_small_learning_rates_are_not_swallowed(toy_config, toy_model: Path) -> None:
    for dtype in ("float32", "bfloat16"):
        learner = Learner(toy_config(rl={"learning_rate": 1e-6}, learner={"dtype": dtype}), toy_model)
        before = weights(learner)
        learner.step(drawn(learner))
        assert all(parameter.dtype == torch.float32 for parameter in learner.model.parameters())
        assert not same(before, weights(learner))


def test_micro_batches_change_nothing_but_rounding(toy_config, toy_model: Path) -> None:
    results = []
    for tokens in (64, 4096):
        learner = Learner(toy_config(learner={"micro_batch_tokens": tokens}), toy_model)
        results.append((learner.step(drawn(learner)), weights(learner)))
    (small, a), (large, b) = results
    for name in ("loss", "grad_norm", "entropy", "mismatch_abs"):
        assert small[name] == pytest.approx(large[name], rel=1e-3, abs=1e-5)
    assert all(torch.allclose(x, y, atol=1e-4) for x, y in zip(a, b, strict=True))


def test_being_held_close_to_the_start_starts_at_no_distance(toy_config, toy_model: Path) -> None:
    learner = Learner(toy_config(rl={"kl": 0.1}), toy_model)
    rows = drawn(learner)
    assert learner.step(rows)["kl"] == pytest.approx(0, abs=1e-6)
    assert learner.step(rows)["kl"] > 1e-6


def test_an_entropy_bonus_widens_the_policy(toy_config, toy_model: Path) -> None:
    learner = Learner(toy_config(rl={"entropy": 1.0, "learning_rate": 0.01}), toy_model)
    rows = [dataclasses.replace(row, advantages=row.advantages * 0) for row in drawn(learner)]
    first = learner.step(rows)["entropy"]
    for _ in range(5):
        last = learner.step(rows)["entropy"]
    assert last > first


def test_replaying_the_same_samples_gives_the_same_bits(toy_config, toy_model: Path) -> None:
    runs = []
    for _ in range(2):
        learner = Learner(toy_config(), toy_model)
        rows = drawn(learner)
        timeless = [{k: v for k, v in learner.step(rows).items() if k != "tokens_per_s"} for _ in range(3)]
        runs.append((timeless, weights(learner)))
    assert runs[0][0] == runs[1][0]
    assert same(runs[0][1], runs[1][1])


def test_supervised_steps_learn_what_is_shown(toy_config, toy_model: Path) -> None:
    learner = Learner(toy_config(sft={"learning_rate": 1e-2, "warmup": 0.0}), toy_model)
    rows = drawn(learner)
    learner.start("sft")
    first = learner.step(rows, "nll")["nll"]
    for _ in range(30):
        last = learner.step(rows, "nll", 0.5)["nll"]
    assert last < first / 2


def test_a_restored_learner_goes_on_bit_by_bit(toy_config, toy_model: Path, tmp_path: Path) -> None:
    settings = toy_config(rl={"kl": 0.05})
    straight = Learner(settings, toy_model)
    rows = drawn(straight)
    straight.step(rows)
    straight.save(tmp_path)
    held = (other := Learner(settings, toy_model)).model
    other.restore(tmp_path)
    assert other.model is held, "who holds the model, such as a weight sender, must see the restored weights"
    assert other.version == 1
    for _ in range(2):
        assert straight.step(rows)["kl"] == other.step(rows)["kl"]
    assert same(weights(straight), weights(other))


def test_tokens_are_on_policy_when_the_learner_s_own_weights_sampled_them(learner: Learner) -> None:
    """A ratio of 1.5 is below the truncation on policy (2) and above the clipping off policy (1.28)."""

    def shifted(version: int) -> list[Sample]:
        return [
            dataclasses.replace(
                row, logprobs=row.logprobs - np.log(1.5) * row.mask, advantages=np.abs(row.advantages)
            )
            for row in drawn(learner, version=version)
        ]

    assert learner.step(shifted(version=0))["clip_fraction"] == 0.0
    assert learner.version == 1
    stale = learner.step(shifted(version=0))
    assert (stale["clip_fraction"], stale["grad_norm"]) == (1.0, 0.0)


def test_a_loss_may_be_a_function_of_one_s_own(learner: Learner) -> None:
    def likelier(inputs: LossInputs) -> LossOutputs:
        return LossOutputs(-(inputs.logprobs_N * inputs.weights_N).sum(), {"rows": inputs.rows_N.max() + 1.0})

    rows = drawn(learner)
    before = sum(sum(scores) for scores in learner.score(rows))
    assert learner.step(rows, likelier)["rows"] > 0
    assert sum(sum(scores) for scores in learner.score(rows)) > before


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")
def test_a_compiled_learner_makes_the_same_update_without_compiling_every_shape(
    toy_config, toy_model: Path
) -> None:
    ends = []
    for choice in (False, True):
        learner = Learner(toy_config(learner={"compile": choice}), toy_model)
        for seed in range(6):  # rows of many lengths
            learner.step(drawn(learner, count=6, seed=seed, version=learner.version))
        ends.append(weights(learner))
    moved = [float((a - b).abs().max()) for a, b in zip(*ends, strict=True)]
    assert max(moved) < 1e-4
    frames = torch._dynamo.utils.counters["frames"]
    assert 0 < frames["ok"] <= 6, "one program for rows of every length"


def test_without_a_compiler_training_goes_on_with_one_warning(
    toy_config, toy_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object):
        def body(**inputs: object) -> None:
            raise RuntimeError("no C++ compiler was found\nand much more")

        return body

    monkeypatch.setattr(torch, "compile", broken)
    learner = Learner(toy_config(learner={"compile": True}), toy_model)
    for seed in range(2):
        learner.step(drawn(learner, seed=seed, version=learner.version))
    assert learner.version == 2
    assert [record.getMessage() for record in caplog.records] == [
        "the model is not compiled (no C++ compiler was found): training is slower"
    ]
