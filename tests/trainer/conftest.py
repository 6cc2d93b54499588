"""A toy model and its settings: two layers of 32, a vocabulary of 32, learned in seconds on one core."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainer.config import Config, parse

VOCABULARY = 32


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with random weights."""
    torch = pytest.importorskip("torch")
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        intermediate_size=64,
        tie_word_embeddings=True,
        max_position_embeddings=128,
    )
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("toy")
    Qwen3ForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def toy_config() -> Callable[..., Config]:
    """Settings for the toy model; keyword arguments replace those of a section, or a value such as `seed`."""

    def make(**sections: Any) -> Config:
        base: dict[str, Any] = {
            "seed": 3,
            "tasks": {"sets": ["unused"]},
            "policy": {"context_tokens": 64, "max_turn_tokens": 16},
            "learner": {"cpu_threads": 1, "device": "cpu", "micro_batch_tokens": 64},
            "rl": {"learning_rate": 1e-3},
        }
        for name, values in sections.items():
            base[name] = {**base.get(name, {}), **values} if isinstance(values, dict) else values
        return parse(base)

    return make
