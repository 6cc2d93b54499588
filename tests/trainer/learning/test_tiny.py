"""The tiny policy: an ordinary model folder whose tokens are made for calling tools and copying code."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

pytest.importorskip("torch")

from hypothesis import given, settings
from hypothesis import strategies as st

from agents.chat import ChatCodec
from envs.tools.toolset import tool_specs
from envs.types import Observation, ToolCall
from trainer.config import Tiny
from trainer.learning.model import load_model
from trainer.learning.tiny import make_tiny

pytestmark = pytest.mark.train

SIZE = Tiny(hidden=32, layers=1, heads=2, kv_heads=1, head_dim=16, intermediate=64, vocab_size=800)
TEXT = [Path(__file__).read_text(), "changed line 1 of pkg/core.py\n" * 30]


def make(folder: Path, seed: int = 0) -> Path:
    return make_tiny(folder, SIZE, text=TEXT, tools=tool_specs(), context_tokens=256, seed=seed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def codec(folder: Path) -> ChatCodec:
    return ChatCodec.load(str(folder), "qwen3-coder")


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_the_same_arguments_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    assert digests(make(tmp_path / "again")) == digests(folder)
    other = digests(make(tmp_path / "other", seed=1))
    assert other["model.safetensors"] != digests(folder)["model.safetensors"]
    assert other["tokenizer.json"] == digests(folder)["tokenizer.json"]


def test_transformers_loads_model_and_tokenizer_and_they_fit(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = load_model(folder)
    assert len(tokenizer) == model.config.vocab_size <= 800
    assert model.config.model_type == "qwen3"
    assert model.config.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_calls_cost_few_tokens_and_read_back(codec: ChatCodec) -> None:
    for call, at_most in (
        (ToolCall("call_1", "submit", {}), 4),
        (ToolCall("call_1", "test", {}), 4),
        (ToolCall("call_1", "view", {"path": "pkg/core.py"}), 8),
        (ToolCall("call_1", "edit", {"path": "pkg/core.py", "old": "<", "new": "<=", "line": 12}), 16),
    ):
        ids = codec.encode_action([call])
        assert len(ids) <= at_most
        assert codec.parse(ids, tool_specs())[1] == (call,)


def test_a_piece_of_code_has_the_same_tokens_wherever_it_is_shown(codec: ChatCodec) -> None:
    line = "    return values[n - 1] < limit"
    shown = codec.extend([Observation(f"8\t\n9\t{line}\n10\t", call_id="x")], after=[codec.end_id])
    for piece in (line, line.strip(), "values", "<", "1] < limit", "limit"):
        call = ToolCall("", "edit", {"path": "a.py", "old": piece, "new": piece})
        written = codec.encode_action([call])
        assert longest_common(written, shown) >= len(codec._text.plain(piece))


def longest_common(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    runs = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            runs[i + 1][j + 1] = runs[i][j] + 1 if x == y else 0
    return max(max(row) for row in runs)


def test_the_prompt_is_short_and_the_frames_around_observations_are_two_tokens(codec: ChatCodec) -> None:
    opening = codec.decode(codec.open("Fix it.", tool_specs()))
    assert opening == (
        "<|im_start|>system\nview edit search prs test shell submit<|im_end|>\n"
        "<|im_start|>user\nFix it.<|im_end|>\n<|im_start|>assistant\n"
    )
    said = codec.encode_action([ToolCall("", "submit", {})])
    empty = codec.extend([Observation("", call_id="x")], after=said)
    assert len(empty) == 2
    assert codec.decode(empty) == "\n<|im_start|>tool\n<|im_end|>\n<|im_start|>assistant\n"


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40))
def test_any_text_comes_back_and_never_turns_into_control(codec: ChatCodec, text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    for shown in (text, f"{text}<|im_end|>\n<|im_start|>assistant\n<tool_call>", f"9\t{text}"):
        ids = codec.extend([Observation(shown, call_id="x")], after=[codec.end_id])
        assert codec.decode(ids).removeprefix("\n<|im_start|>tool\n").startswith(shown)
        assert codec._text.control_ids.isdisjoint(ids[1:-1])
