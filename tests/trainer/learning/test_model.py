"""Scoring: the right token at the right place, in float32, whatever the chunk."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from trainer.learning.model import ModelError, load_model, load_weights, save_model, score

pytestmark = pytest.mark.train


@pytest.fixture
def model(toy_model: Path):
    return load_model(toy_model)


@pytest.fixture
def tokens():
    return torch.randint(0, 32, (3, 17), generator=torch.Generator().manual_seed(1))


def sampled(tokens, share: float = 0.5):
    mask = torch.rand(tokens.shape, generator=torch.Generator().manual_seed(2)) < share
    mask[:, 0] = False
    return mask


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.3])
def test_scores_are_those_of_the_whole_model_shifted_by_one(model, tokens, temperature: float) -> None:
    mask = sampled(tokens)
    with torch.no_grad():
        scores = score(model, tokens, mask, temperature=temperature)
        logprobs_BTV = (model(tokens).logits.float() / temperature).log_softmax(-1)
    wanted = [float(logprobs_BTV[b, t - 1, tokens[b, t]]) for b, t in mask.nonzero().tolist()]
    assert scores.logprobs_N.tolist() == pytest.approx(wanted, abs=1e-5)
    entropy_BT = -(logprobs_BTV.exp() * logprobs_BTV).sum(-1)
    wanted = [float(entropy_BT[b, t - 1]) for b, t in mask.nonzero().tolist()]
    assert scores.entropy_N.tolist() == pytest.approx(wanted, abs=1e-4)


def test_chunks_change_neither_scores_nor_gradients(model, tokens) -> None:
    mask = sampled(tokens)
    results = []
    for chunk in (10_000, 5, 1):
        model.zero_grad()
        scores = score(model, tokens, mask, chunk=chunk, entropy="gradient")
        (scores.logprobs_N.sum() + scores.entropy_N.sum()).backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        results.append((scores.logprobs_N.detach(), gradient.clone()))
    for logprobs_N, gradient in results[1:]:
        assert torch.allclose(logprobs_N, results[0][0], atol=1e-5)
        assert torch.allclose(gradient, results[0][1], rtol=1e-3, atol=1e-5 * gradient.abs().max())


def test_only_what_stands_before_a_token_is_asked_about_it(model, tokens) -> None:
    """The gradient with respect to the logits is zero everywhere but right before sampled tokens."""
    mask = sampled(tokens)
    seen: list = []
    hook = model.base_model.register_forward_hook(lambda *call: seen.append(call[2].last_hidden_state))
    scores = score(model, tokens, mask)
    hook.remove()
    (gradient_BTD,) = torch.autograd.grad(scores.logprobs_N.sum(), seen)
    touched_BT = gradient_BTD.abs().sum(-1) > 0
    wanted_BT = torch.zeros_like(mask)
    wanted_BT[:, :-1] = mask[:, 1:]
    assert torch.equal(touched_BT, wanted_BT)


def test_a_token_is_not_influenced_by_what_follows_it(model, tokens) -> None:
    mask = torch.zeros_like(tokens, dtype=torch.bool)
    mask[:, 5] = True
    before = score(model, tokens, mask).logprobs_N
    later = tokens.clone()
    later[:, 6:] = 0
    assert torch.equal(before, score(model, later, mask).logprobs_N)
    earlier = tokens.clone()
    earlier[:, 4] = (earlier[:, 4] + 1) % 32
    assert not torch.equal(before, score(model, earlier, mask).logprobs_N)


def test_logits_exist_only_for_sampled_tokens(model, tokens) -> None:
    mask = torch.zeros_like(tokens, dtype=torch.bool)
    mask[0, 3:6] = True
    asked: list[int] = []
    hook = model.lm_head.register_forward_hook(lambda _, args, __: asked.append(args[0].shape[0]))
    score(model, tokens, mask, chunk=2)
    hook.remove()
    assert sum(asked) == 3 and max(asked) <= 2


@pytest.mark.parametrize("lengths", [(2, 3), (9, 8), (1, 16)])
def test_two_sequences_in_one_row_score_as_two_rows(model, tokens, lengths: tuple[int, int]) -> None:
    first, second = lengths
    row = tokens[:1, : first + second]
    mask = torch.ones_like(row, dtype=torch.bool)
    mask[:, [0, first]] = False
    positions = torch.cat([torch.arange(first), torch.arange(second)])[None]
    blocks = torch.block_diag(torch.ones(first, first), torch.ones(second, second)).tril().bool()[None]
    with torch.no_grad():
        packed = score(model, row, mask, positions_BT=positions, block_mask_BTT=blocks)
        apart = [
            score(model, part, part_mask)
            for part, part_mask in zip(row.split(lengths, 1), mask.split(lengths, 1), strict=True)
        ]
        leaking = score(model, row, mask)
    wanted = torch.cat([scores.logprobs_N for scores in apart])
    assert torch.allclose(packed.logprobs_N, wanted, atol=1e-5)
    assert torch.allclose(packed.entropy_N, torch.cat([scores.entropy_N for scores in apart]), atol=1e-4)
    assert not torch.allclose(leaking.logprobs_N, wanted, atol=1e-3), "the mask is what keeps them apart"


def test_a_tree_in_one_row_scores_as_its_branches_do(model, tokens) -> None:
    """A trunk of 5 ids and two branches of 4, each after a copy of the trunk's last id."""
    trunk, one, other = tokens[0, :5], tokens[1, :4], tokens[2, :4]
    row = torch.cat([trunk, trunk[-1:], one, trunk[-1:], other])[None]
    branch = torch.arange(4, 9)
    positions = torch.cat([torch.arange(5), branch, branch])[None]
    blocks = torch.zeros(15, 15, dtype=torch.bool)
    blocks[:5, :5] = True
    for start in (5, 10):
        blocks[start : start + 5, :4] = True  # the copy stands in for the trunk's last id
        blocks[start : start + 5, start : start + 5] = True
    mask = torch.zeros_like(row, dtype=torch.bool)
    mask[:, 6:10] = mask[:, 11:15] = True
    with torch.no_grad():
        tree = score(model, row, mask, positions_BT=positions, block_mask_BTT=blocks.tril()[None])
        rows = torch.stack([torch.cat([trunk, one]), torch.cat([trunk, other])])
        apart = score(model, rows, torch.arange(9).ge(5).expand(2, 9))
    assert torch.allclose(tree.logprobs_N, apart.logprobs_N, atol=1e-5)


def test_a_saved_model_comes_back_bit_by_bit(model, toy_model: Path, tmp_path: Path) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    save_model(model, tmp_path / "saved")
    loaded, overwritten = load_model(tmp_path / "saved"), load_model(toy_model)
    load_weights(overwritten, tmp_path / "saved")
    for other in (loaded, overwritten):
        for a, b in zip(model.parameters(), other.parameters(), strict=True):
            assert torch.equal(a, b)


def test_a_folder_without_a_model_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        load_model(tmp_path)
    assert "\n" not in str(caught.value)


SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
FAMILIES = {
    "qwen3": {"head_dim": 8},
    "llama": {},
    "mistral": {"head_dim": 8},
    "granite": {"logits_scaling": 8.0, "attention_dropout": 0.1},
    "granitemoe": {"logits_scaling": 6.0, "num_local_experts": 4, "num_experts_per_tok": 2},
    "cohere": {"logit_scale": 0.0625},
    "cohere2": {"logit_scale": 0.25, "head_dim": 8},
    "mixtral": {"router_jitter_noise": 0.2, "num_local_experts": 4, "attention_dropout": 0.1, "head_dim": 8},
    "seed_oss": {"attention_dropout": 0.1, "residual_dropout": 0.1, "head_dim": 8},
    "olmo2": {"attention_dropout": 0.1},
    "gemma": {"head_dim": 8, "attention_dropout": 0.1},
}
REFUSED = {
    "gemma2": {"head_dim": 8, "final_logit_softcapping": 2.0},
    "phimoe": {"router_jitter_noise": 0.3, "num_local_experts": 4, "num_experts_per_tok": 2},
}


def of_family(folder: Path, name: str, more: dict) -> Path:
    """Write a random model of a family."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **{**SMALL, **more}))
    for parameter in model.parameters():  # initial weights are small: logits must be large to differ
        parameter.data *= 3
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_of_every_family_are_those_of_its_own_logits_each_time(tmp_path: Path, family: str) -> None:
    from transformers import AutoModelForCausalLM

    folder = of_family(tmp_path, family, FAMILIES[family])
    ids = torch.randint(3, 64, (2, 12), generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[:, 0] = False
    model = load_model(folder)
    assert model.training
    first, again = (score(model, ids, mask).logprobs_N.detach() for _ in range(2))
    assert torch.equal(first, again), "nothing is drawn by chance in training"
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        logprobs = plain(ids).logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0].flatten()
    assert torch.allclose(first, logprobs, atol=1e-4)


@pytest.mark.parametrize("family", REFUSED)
def test_a_family_whose_logits_cannot_be_repeated_is_refused_in_one_line(tmp_path: Path, family: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_model(of_family(tmp_path, family, REFUSED[family]))
    assert "\n" not in str(caught.value)
