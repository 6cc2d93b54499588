"""The policy as a torch model: load, score sampled tokens, save.

Scoring computes logits only where a token was sampled, a chunk of positions at a time, so a full-vocabulary
tensor never exists for a prompt or an observation. The softmax is in float32 after dividing by the
temperature, exactly as in the sampler.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .packing import packed_arguments

CHUNK = 2048
"""Positions whose logits exist at once: 2048 of a vocabulary of 150,000 are 1.2 GB in float32."""
LOGIT_SCALE = "daythree_logit_scale"
"""Attribute of a loaded model: the constant factor on the logits."""
EntropyUse = Literal["none", "value", "gradient"]
"""Purpose of the entropy of scored tokens: none, logs, or a term of the loss."""
PROBE = 16
"""Number of ids on which a loaded model's logits are checked."""


class ModelError(Exception):
    """The model cannot be loaded or is not supported. Takes one sentence."""


class Scores(NamedTuple):
    """Scores of the N selected tokens, row by row."""

    logprobs_N: Tensor
    entropy_N: Tensor | None
    """Entropy in nats of the distribution that each token was sampled from; None when `score` omits it."""


def load_model(folder: str | Path, *, device: torch.device | str = "cpu", checkpointing: bool = False) -> Any:
    """Load a causal language model in training mode, with float32 master weights. Raises `ModelError`."""
    from transformers import AutoModelForCausalLM

    _no_bars()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            str(folder), dtype=torch.float32, attn_implementation="sdpa"
        )
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"cannot load a model from {folder}: {reason}") from None
    if getattr(model.config, "final_logit_softcapping", None):
        raise ModelError(f"{folder}: models that cap their logits are not supported; use another model")
    if model.base_model is model:
        raise ModelError(f"{folder}: no body and head can be told apart; use a decoder-only language model")
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.config.use_cache = False
    model.to(torch.device(device))  # pyright: ignore[reportArgumentType]
    ids_BT, wanted = _tried(model.eval())
    silence(model)
    setattr(model, LOGIT_SCALE, _logit_scale(model.train(), ids_BT, wanted, folder))
    return model


def silence(model: Any) -> None:
    """Set every dropout and jitter to 0: training log-probabilities must equal the acting policy's.

    Gradient checkpointing needs training mode, in which attention reads its dropout from an attribute of its
    module, and routers their noise from the configuration.
    """
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for holder in (module, getattr(module, "config", None)):
            for name, value in list(vars(holder).items()) if holder is not None else ():
                random = "dropout" in name or "jitter" in name or name == "layerdrop"
                if random and isinstance(value, float):
                    setattr(holder, name, 0.0)


def _tried(model: Any) -> tuple[Tensor, Tensor]:
    """Return `PROBE` random ids [1, PROBE] and the model's logits for the ids."""
    vocabulary = model.get_input_embeddings().weight.shape[0]
    drawn_BT = torch.randint(0, vocabulary, (1, PROBE), generator=torch.Generator().manual_seed(0))
    ids_BT = drawn_BT.to(next(model.parameters()).device)
    with torch.no_grad():
        return ids_BT, model(input_ids=ids_BT).logits.double()


def _logit_scale(model: Any, ids_BT: Tensor, wanted: Tensor, folder: str | Path) -> float:
    """Return the factor from the logits of head and body, called separately, to the model's logits `wanted`.

    Granite, Cohere and Falcon-H1 scale their logits by a constant. Raises `ModelError` when the logits differ
    by more than a constant factor, since `score` would learn from wrong log-probabilities. PhiMoE differs in
    training mode even with all randomness off, because the jitter setting also changes the routing.
    """
    with torch.no_grad():
        hidden = model.base_model(input_ids=ids_BT, use_cache=False).last_hidden_state
        parts = model.get_output_embeddings()(hidden).double()
    scale = float((wanted * parts).sum() / (parts * parts).sum())
    if not torch.allclose(wanted, parts * scale, rtol=1e-3, atol=1e-4 * float(wanted.abs().max())):
        raise ModelError(
            f"{folder}: the learner cannot repeat how this model computes its logits; use another model"
        )
    return scale if abs(scale - 1) > 1e-4 else 1.0


def score(
    model: Any,
    ids_BT: Tensor,
    mask_BT: Tensor,
    *,
    positions_BT: Tensor | None = None,
    block_mask_BTT: Tensor | None = None,
    starts_S: Tensor | None = None,
    temperature: float = 1.0,
    chunk: int = CHUNK,
    body: Any = None,
    entropy: EntropyUse = "value",
) -> Scores:
    """Return log-probability and entropy of every id at a true position of the mask, given the previous ids.

    The hidden state at t - 1 predicts the id at t, so the mask's first column must be false. `body`
    replaces the model without its head, such as by a compiled copy. The entropy is omitted with
    `entropy="none"`, and has a gradient only with `"gradient"`.

    A row may hold several sequences, or a tree of them: `positions_BT` gives each id's position in its own
    sequence, and `block_mask_BTT[b, t, s]` is true where the id at t attends to the id at s (t = s
    included). For two sequences of 2 and 3 ids, positions are `0 1 0 1 2` and the block mask is two lower
    triangles. A branch begins with a copy of the last shared id (mask false), so that the branch's first own
    id is predicted from the copy.

    Sequences that lie end to end in one row need no block mask, which is quadratic in the row, but `starts_S`
    (`packing`), with a model for which `enable_packing` holds.
    """
    arguments: dict[str, Any] = {}
    if starts_S is not None:
        assert positions_BT is not None, "packed sequences need positions"
        arguments = packed_arguments(positions_BT, starts_S)
    elif positions_BT is not None:
        arguments["position_ids"] = positions_BT
    if block_mask_BTT is not None:
        arguments["attention_mask"] = block_mask_BTT[:, None]
    hidden_BTD = (model.base_model if body is None else body)(
        input_ids=ids_BT, use_cache=False, **arguments
    ).last_hidden_state
    targets_N = ids_BT[:, 1:][mask_BT[:, 1:]]
    hidden_ND = hidden_BTD[:, :-1][mask_BT[:, 1:]]
    head, temperature = model.get_output_embeddings(), temperature / getattr(model, LOGIT_SCALE, 1.0)
    if hidden_ND.shape[0] <= chunk:
        return Scores(*_score_chunk(head, hidden_ND, targets_N, temperature, entropy))
    parts = [
        # Recomputed in the backward: otherwise autograd would keep the logits of every chunk alive.
        checkpoint(_score_chunk, head, hidden, targets, temperature, entropy, use_reentrant=False)
        for hidden, targets in zip(hidden_ND.split(chunk), targets_N.split(chunk), strict=True)
    ]
    logprobs, entropies = zip(*parts, strict=True)  # pyright: ignore[reportArgumentType]
    return Scores(torch.cat(logprobs), None if entropy == "none" else torch.cat(entropies))


def _score_chunk(
    head: Any, hidden_ND: Tensor, targets_N: Tensor, temperature: float, entropy: EntropyUse
) -> tuple[Tensor, Tensor | None]:
    # Nothing but the result keeps a tensor over the vocabulary: its backward needs no logits.
    logits_NV = head(hidden_ND).float()
    logprobs_NV = torch.log_softmax(logits_NV if temperature == 1 else logits_NV / temperature, dim=-1)
    del logits_NV
    chosen_N = logprobs_NV.gather(-1, targets_N[:, None])[:, 0]
    if entropy == "gradient":
        return chosen_N, -(logprobs_NV.exp() * logprobs_NV).sum(-1)
    if entropy == "value":
        fixed_NV = logprobs_NV.detach()
        return chosen_N, -fixed_NV.exp().mul_(fixed_NV).sum(-1)
    return chosen_N, None


def load_weights(model: Any, folder: Path) -> None:
    """Overwrite a model's weights in place with those of a model folder. Raises `ModelError`."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = {
            name: t for file in sorted(folder.glob("*.safetensors")) for name, t in load_file(file).items()
        }
        result = model.load_state_dict(weights, strict=False)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ModelError(f"cannot load weights from {folder}: {' '.join(str(error).split())}") from None
    tied = {"lm_head.weight"} if getattr(model.config, "tie_word_embeddings", False) else set()
    if result.unexpected_keys or set(result.missing_keys) - tied:
        raise ModelError(f"{folder}: these are not the weights of this model")


def save_model(model: Any, folder: Path, *, tokenizer_from: Path | str | None = None) -> None:
    """Write a model folder for transformers and vLLM, with tokenizer files from `tokenizer_from`."""
    _no_bars()
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    if tokenizer_from is None:
        return
    for pattern in (
        "tokenizer*",
        "chat_template*",
        "vocab*",
        "merges*",
        "special_tokens_map*",
        "added_tokens*",
    ):
        for file in Path(tokenizer_from).glob(pattern):
            if file.is_file():
                shutil.copy2(file, folder / file.name)


def _no_bars() -> None:
    """Disable the progress bars of transformers, which would overwrite this project's."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
