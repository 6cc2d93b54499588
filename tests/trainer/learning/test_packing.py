"""Packing: which models can, and what a packed learner learns and saves."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from trainer.data.samples import Sample
from trainer.learning.learner import Learner, LearnerError
from trainer.learning.model import load_model, score
from trainer.learning.packing import enable_packing

from .test_model import of_family

pytestmark = pytest.mark.train

CAN = {
    "qwen3": {"head_dim": 8},
    "llama": {},
    "granite": {"logits_scaling": 8.0},
    "mixtral": {"num_local_experts": 4, "head_dim": 8, "sliding_window": None},
    "olmo2": {},
}
CANNOT = {
    "mistral": {"head_dim": 8, "sliding_window": 4},
    "cohere2": {"head_dim": 8, "sliding_window": 4},
}


def samples(count: int = 12) -> list[Sample]:
    generator = torch.Generator().manual_seed(5)
    made = []
    for number in range(count):
        length = 4 + 3 * number
        ids = torch.randint(0, 32, (length,), generator=generator).tolist()
        mask = [False, *(place % 3 != 0 for place in range(1, length))]
        made.append(Sample.of(ids, mask, -3.4, 0, (-1) ** number, trajectory=f"t{number}"))
    return made


def apart_and_packed(model, lengths: tuple[int, ...]):
    parts = [torch.randint(3, 30, (1, n), generator=torch.Generator().manual_seed(n)) for n in lengths]
    masks = [torch.arange(n)[None] > 0 for n in lengths]
    alone = [score(model, ids, mask).logprobs_N for ids, mask in zip(parts, masks, strict=True)]
    packed = score(
        model,
        torch.cat(parts, 1),
        torch.cat(masks, 1),
        positions_BT=torch.cat([torch.arange(n) for n in lengths])[None],
        starts_S=torch.tensor([0, *lengths]).cumsum(0),
    )
    return torch.cat(alone), packed.logprobs_N


@pytest.mark.parametrize("family", CAN)
def test_a_family_that_attends_to_all_scores_packed_as_alone(tmp_path: Path, family: str) -> None:
    model = load_model(of_family(tmp_path, family, CAN[family]))
    assert enable_packing(model)
    alone, packed = apart_and_packed(model, (7, 2, 30))
    assert torch.allclose(alone, packed, atol=1e-4)


@pytest.mark.parametrize("family", CANNOT)
def test_a_family_that_cannot_is_left_as_it_was(tmp_path: Path, family: str) -> None:
    folder = of_family(tmp_path, family, CANNOT[family])
    model = load_model(folder)
    before = model.config._attn_implementation
    assert not enable_packing(model)
    assert model.config._attn_implementation == before


@pytest.mark.parametrize("checkpointing", [False, True])
def test_packed_and_padded_learners_take_the_same_step(
    toy_config, toy_model: Path, checkpointing: bool
) -> None:
    steps = []
    for packing in (False, True):
        options = {"packing": packing, "activation_checkpointing": checkpointing, "micro_batch_tokens": 100}
        learner = Learner(toy_config(learner=options, rl={"kl": 0.1}), toy_model)
        learner.step(samples())
        steps.append((learner.step(samples()), [p.detach().clone() for p in learner.model.parameters()]))
    (padded, a), (packed, b) = steps
    for name in ("loss", "grad_norm", "entropy", "mismatch_abs", "kl"):
        assert packed[name] == pytest.approx(padded[name], rel=1e-3, abs=1e-5)
    assert padded["padding"] > 0.05 and packed["padding"] == 0.0
    assert all(torch.allclose(x, y, atol=1e-4) for x, y in zip(a, b, strict=True))


def test_bfloat16_packs_within_its_rounding(toy_config, toy_model: Path) -> None:
    norms = []
    for packing in (False, True):
        options = {"packing": packing, "dtype": "bfloat16"}
        norms.append(Learner(toy_config(learner=options), toy_model).step(samples())["grad_norm"])
    assert norms[1] == pytest.approx(norms[0], rel=0.05)


def test_a_saved_model_does_not_name_our_attention(toy_config, toy_model: Path, tmp_path: Path) -> None:
    learner = Learner(toy_config(learner={"packing": True}, rl={"kl": 0.1}), toy_model)
    learner.save(tmp_path)
    for folder in ("model", "reference"):
        config = json.loads((tmp_path / folder / "config.json").read_text())
        assert "daythree" not in json.dumps(config)
    learner.step(samples())
    wanted = learner.step(samples())
    again = Learner(toy_config(learner={"packing": True}, rl={"kl": 0.1}), toy_model)
    again.restore(tmp_path)
    again.step(samples())
    assert again.step(samples())["kl"] == pytest.approx(wanted["kl"], rel=1e-4)


def test_packing_that_is_asked_for_and_cannot_be_is_refused(toy_config, tmp_path: Path) -> None:
    folder = of_family(tmp_path, "mistral", CANNOT["mistral"])
    with pytest.raises(LearnerError, match="packing"):
        Learner(toy_config(learner={"packing": True}), folder)
    learner = Learner(toy_config(), folder)
    assert learner.step([dataclasses.replace(sample) for sample in samples()])["padding"] > 0


def test_supervised_steps_compute_no_entropy(toy_config, toy_model: Path) -> None:
    learner = Learner(toy_config(), toy_model)
    assert "entropy" in learner.step(samples())
    learner.start("sft")
    assert "entropy" not in learner.step(samples(), loss="nll")
