"""Measure the learner's tokens per second through forward and backward on this machine.

The batch holds no padding. A third of its tokens count as sampled, as in an episode whose observations are
longer than its actions.
"""

from __future__ import annotations

import time
from typing import Any

import torch

from trainer.learning.model import score

SIZES: dict[str, dict[str, Any]] = {
    "1.3M": {"hidden_size": 160, "num_hidden_layers": 4, "num_attention_heads": 5, "intermediate_size": 448},
    "4M": {"hidden_size": 256, "num_hidden_layers": 5, "num_attention_heads": 8, "intermediate_size": 704},
}


def measure(
    *,
    size: str = "1.3M",
    length: int = 512,
    micro_batch_tokens: int = 8192,
    threads: int = 2,
    compiled: bool = False,
    bfloat16: bool = False,
    vocabulary: int = 1024,
    seconds: float = 5.0,
    device: str = "cpu",
) -> dict[str, Any]:
    """Time forward and backward of one micro-batch, repeated for about `seconds` after a first pass.

    `first_s` is the first pass, compilation included. `tokens_per_s` covers the fastest half of the later
    passes, which dampens the noise of a busy machine. `tokens_per_cpu_s` divides by this process's CPU time
    (spinning threads included) and hardly depends on other load.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = _random_model(size, vocabulary)
    model.to(device).train()
    body = torch.compile(model.base_model, dynamic=True) if compiled else None
    ids_BT = torch.randint(0, vocabulary, (max(1, micro_batch_tokens // length), length), device=device)
    mask_BT = torch.rand(ids_BT.shape, device=device) < 1 / 3
    mask_BT[:, 0] = False

    def once() -> float:
        start = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
            loss = -score(model, ids_BT, mask_BT, body=body).logprobs_N.mean()
        loss.backward()
        model.zero_grad(set_to_none=True)
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    try:
        first = once()
        cpu = time.process_time()
        times, end = [once()], time.perf_counter() + seconds
        while time.perf_counter() < end:
            times.append(once())
        cpu = time.process_time() - cpu
    finally:
        torch.set_num_threads(before)
    best = sorted(times)[: max(1, len(times) // 2)]
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "length": length,
        "threads": threads,
        "compiled": compiled,
        "dtype": "bfloat16 autocast" if bfloat16 else "float32",
        "first_s": round(first, 2),
        "tokens_per_s": round(ids_BT.numel() * len(best) / sum(best)),
        "tokens_per_cpu_s": round(ids_BT.numel() * len(times) / cpu),
        "passes": len(times),
    }


def _random_model(size: str, vocabulary: int) -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    shape = SIZES[size]
    config = Qwen3Config(
        **shape,
        vocab_size=vocabulary,
        head_dim=32,
        num_key_value_heads=shape["num_attention_heads"],
        tie_word_embeddings=True,
        max_position_embeddings=4096,
    )
    return Qwen3ForCausalLM(config)
