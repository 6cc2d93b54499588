"""Lessons: the same everywhere, of training words only, and refused edits are seen but not taught."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

import pytest

pytest.importorskip("torch")

from agents.chat import ChatCodec
from envs.register.practice.words import names_of
from envs.tools.toolset import tool_specs
from envs.types import ToolCall
from trainer.config import Sft, Tiny
from trainer.data.lessons import Lessons, lesson_text, teach
from trainer.learning.sft import taught
from trainer.learning.tiny import make_tiny

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> ChatCodec:
    size = Tiny(hidden=32, layers=2, heads=2, kv_heads=2, head_dim=16, intermediate=64, vocab_size=900)
    folder: Path = tmp_path_factory.mktemp("tiny")
    make_tiny(folder, size, text=lesson_text(0, 300), tools=tool_specs(), context_tokens=1024)
    return ChatCodec.load(str(folder), "qwen3-coder")


def test_a_lesson_is_the_same_each_time_and_another_seed_gives_another(codec: ChatCodec) -> None:
    lessons = Lessons(codec, tool_specs(), 1024, seed=1)
    first, again = lessons.sample(8), lessons.sample(8)
    other = Lessons(codec, tool_specs(), 1024, seed=2).sample(8)
    assert first is not None and again is not None and other is not None
    assert first.ids.tolist() == again.ids.tolist() != other.ids.tolist()
    assert first.mask.tolist() == again.mask.tolist()


def test_no_held_out_name_is_taught() -> None:
    heldout = set(names_of("heldout"))
    for number in range(200):
        instruction, trajectory = teach(0, number, drill=number % 2 == 0)
        seen = [instruction, *(o.text for turn in trajectory.turns for o in turn.observations)]
        names = set(re.findall(r"[a-z]+_[a-z]+", "\n".join(seen).replace("test_", "")))
        assert not names & heldout


def test_slips_are_seen_and_not_taught(codec: ChatCodec) -> None:
    """Refused edits, and searches for names that nothing has mentioned."""
    refused = misread = 0
    for number in range(200):
        instruction, trajectory = teach(0, number)
        sample = Lessons(codec, tool_specs(), 4096).sample(number)
        assert sample is not None
        seen = "\n".join([instruction, *(turn.observations[0].text for turn in trajectory.turns)])
        spans = [match.span() for match in re.finditer("1+", "".join(str(int(m)) for m in sample.mask))]
        good = []
        for turn in trajectory.turns:
            wrong = str(turn.action.calls[0].arguments.get("query", "")) not in seen.replace(
                turn.observations[0].text, ""
            )
            misread += wrong
            if not turn.observations[0].is_error and not wrong:
                good.append(turn)
        assert len(spans) == len(good)
        for (start, end), turn in zip(spans, good, strict=True):
            _, calls = codec.parse(sample.ids[start:end].tolist(), tool_specs())
            assert calls[0].name == turn.action.calls[0].name
        refused += sum(turn.observations[0].is_error for turn in trajectory.turns)
    assert refused > 5 and misread > 5


def test_a_lesson_over_the_limit_is_left_out(codec: ChatCodec) -> None:
    assert Lessons(codec, tool_specs(), 60).sample(0) is None


def test_names_of_known_words_have_known_tokens(codec: ChatCodec) -> None:
    for name in islice(names_of("heldout"), 40):
        (verb, noun), call = name.split("_"), ToolCall("", "search", {"query": name})
        pieces = [codec.decode([piece]) for piece in codec.encode_action([call])]
        assert f"{verb}_" in pieces and noun in pieces


def test_batches_hold_drills_in_the_first_half_only_and_end_with_the_tokens(codec: ChatCodec) -> None:
    lessons = Lessons(codec, tool_specs(), 1024)
    settings = Sft(lessons=40_000, batch_tokens=4000, drills=1.0)
    batches = list(taught(lessons, settings))
    shares = [share for _, share in batches]
    assert shares == sorted(shares) and shares[-1] >= 1.0 > shares[-2]
    early = [sample for (batch, share) in batches[:3] for sample in batch]
    late = [sample for (batch, share) in batches[-3:] for sample in batch]

    def tested(samples):
        return sum("<function=test>" in codec.decode(sample.ids.tolist()) for sample in samples)

    assert tested(early) == 0 < tested(late), "a drill only edits"
