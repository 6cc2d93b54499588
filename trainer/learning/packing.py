"""Several sequences in one row without padding: attention within sequences that lie end to end.

A packed micro-batch is one row of T ids. `starts_S` holds the place of every sequence's first id, and T at
the end: two sequences of 2 and 3 ids have `0 2 5`. Everything but attention treats ids one by one; attention
runs per sequence, so that its time and memory grow with the square of a sequence, never with that of the row.

The attention is one operator to `torch.compile`, and its number of sequences a size of a tensor: rows with
any number of sequences share one compiled program.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

IMPLEMENTATION = "daythree_packed"
"""Name under which transformers finds the attention of packed rows."""
FORWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
"""What torch's attention calls on a CPU; inside an operator autograd cannot find the backward."""
PROBE = (5, 1, 8)
"""Lengths of the sequences by which a model's packed scores are compared with its plain ones."""


def enable_packing(model: Any) -> bool:
    """Give a model the attention of packed rows; false, and nothing changed, where the model cannot have it.

    A model can when all its layers attend to the whole past through transformers' attention interface, and
    when its scores of a packed row are those of the sequences alone: state-space layers, sliding windows and
    learned attention sinks are examples that cannot.
    """
    from transformers import AttentionInterface

    config, before = model.config, model.config._attn_implementation
    kinds = getattr(config, "layer_types", None) or ["full_attention"]
    if set(kinds) != {"full_attention"} or (getattr(config, "sliding_window", None) is not None):
        return False
    AttentionInterface.register(IMPLEMENTATION, _attend)
    model.set_attn_implementation(IMPLEMENTATION)
    if model.config._attn_implementation == IMPLEMENTATION and _packs(model):
        return True
    model.set_attn_implementation(before)
    return False


def packed_arguments(positions_BT: Tensor, starts_S: Tensor) -> dict[str, Any]:
    """Return the arguments by which a model's body is told of the sequences in a row."""
    return {"position_ids": positions_BT, "cu_seq_lens_q": starts_S}


def _packs(model: Any) -> bool:
    """Compare hidden states of a packed row with those of its sequences alone."""
    vocabulary = model.get_input_embeddings().weight.shape[0]
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randint(0, vocabulary, (1, n), generator=generator).to(device) for n in PROBE]
    positions = torch.cat([torch.arange(n) for n in PROBE])[None].to(device)
    starts = torch.tensor([0, *PROBE]).cumsum(0).to(device)
    with torch.no_grad():
        apart = [model.base_model(input_ids=ids, use_cache=False).last_hidden_state for ids in parts]
        try:
            packed = model.base_model(
                input_ids=torch.cat(parts, 1), use_cache=False, **packed_arguments(positions, starts)
            ).last_hidden_state
        except (TypeError, ValueError, RuntimeError):  # a body that does not hand arguments on
            return False
    wanted = torch.cat(apart, 1)
    return torch.allclose(packed, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """Attention as transformers calls it; rows that are not packed go to its own."""
    starts_S = kwargs.get("cu_seq_lens_q")
    if starts_S is None or kwargs.get("s_aux") is not None or kwargs.get("softcap") is not None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    # Under autocast norms and rotations return float32; torch's own attention would round them as well.
    query, key = query.to(value.dtype), key.to(value.dtype)
    scaling = kwargs.get("scaling")
    scale = query.shape[-1] ** -0.5 if scaling is None else float(scaling)
    return packed_attention(query, key, value, starts_S, scale)[0].transpose(1, 2), None


@torch.library.custom_op("daythree::packed_attention", mutates_args=())
def packed_attention(
    query: Tensor, key: Tensor, value: Tensor, starts_S: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """Causal attention within each sequence, and the logarithms of its softmax's denominators, on a CPU.

    Queries, keys, values and the first result are of shape (1, heads, T, size), the second is (1, heads, T).
    """
    result, denominators = _outputs(query)
    for part in _parts(starts_S):
        inputs = (tensor[:, :, part] for tensor in (query, key, value))
        result[:, :, part], denominators[:, :, part] = FORWARD(*inputs, 0.0, True, scale=scale)
    return result, denominators


@torch.library.custom_op("daythree::packed_attention_backward", mutates_args=())
def packed_attention_backward(  # noqa: PLR0917 - an operator's tensors have an order, no names
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    result: Tensor,
    denominators: Tensor,
    starts_S: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values, from that of the first result of `packed_attention`."""
    slopes = _like(query, key, value)
    for part in _parts(starts_S):
        inputs = (t[:, :, part] for t in (gradient, query, key, value, result, denominators))
        for whole, slope in zip(slopes, BACKWARD(*inputs, 0.0, True, scale=scale), strict=True):
            whole[:, :, part] = slope
    return slopes


@packed_attention.register_fake
def _(query: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return _outputs(query)


@packed_attention_backward.register_fake
def _(_gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _like(query, key, value)


def _outputs(query: Tensor) -> tuple[Tensor, Tensor]:
    """Return room for the results of `packed_attention`; the first lies in memory as (1, T, heads, size)."""
    rows, heads, width, size = query.shape
    kind = torch.float32 if query.dtype == torch.bfloat16 else query.dtype
    return (
        query.new_empty(rows, width, heads, size).transpose(1, 2),
        query.new_empty(rows, heads, width, dtype=kind),
    )


def _like(*tensors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return room for three gradients, which lie in memory as (1, T, heads, size)."""
    first, second, third = (t.new_empty(t.transpose(1, 2).shape).transpose(1, 2) for t in tensors)
    return first, second, third


def _parts(starts_S: Tensor) -> list[slice]:
    places = starts_S.tolist()
    return [slice(start, end) for start, end in pairwise(places)]


def _save(ctx: Any, inputs: Any, output: tuple[Tensor, Tensor]) -> None:
    query, key, value, starts_S, scale = inputs
    ctx.save_for_backward(query, key, value, *output, starts_S)
    ctx.mark_non_differentiable(output[1])
    ctx.scale = scale


def _backward(ctx: Any, gradient: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    slopes = packed_attention_backward(gradient.to(ctx.saved_tensors[0].dtype), *ctx.saved_tensors, ctx.scale)
    return (*slopes, None, None)


packed_attention.register_autograd(_backward, setup_context=_save)
