"""SFT: what is learned from, in which order, and when it ends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("torch")

from agents.chat import ChatCodec
from agents.types import Action, Completion, Trajectory, Turn, VersionSpan
from envs.tools.toolset import tool_specs
from envs.types import Observation, StopReason, Task, ToolCall, Verdict
from trainer.config import Sft, Tiny
from trainer.data.samples import Sample, from_transcript
from trainer.learning.learner import Learner
from trainer.learning.sft import replayed, sft_samples, supervise
from trainer.learning.tiny import make_tiny

pytestmark = pytest.mark.train

SOURCE = "def add(a, b):\n    return a + b\n\n\ndef less(a, b):\n    return a < b\n\n\nLIMIT = 12\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    size = Tiny(hidden=32, layers=2, heads=2, kv_heads=2, head_dim=16, intermediate=64, vocab_size=700)
    text = [SOURCE, "changed line 1 of pkg/a.py\n" * 20]
    return make_tiny(tmp_path_factory.mktemp("t"), size, text=text, tools=tool_specs(), context_tokens=512)


@pytest.fixture(scope="module")
def codec(folder: Path) -> ChatCodec:
    return ChatCodec.load(str(folder), "qwen3-coder")


def task() -> Task:
    return Task("t1", "s", "train", "e", "/w", "Mend less.", "", "", "", "", "", ("x",), ())


def played(name: str, reward: float, turns: Sequence[Turn]) -> Trajectory:
    return Trajectory(
        name, "t1", "", name, "script", 0, tuple(turns), StopReason.SUBMITTED, reward, Verdict(reward == 1.0)
    )


def call(name: str, shown: str, **arguments) -> Turn:
    return Turn(Action((ToolCall("c", name, arguments),)), (Observation(shown, call_id="c"),), 0.0, 0.0)


def solving() -> list[Turn]:
    edit = {"path": "pkg/a.py", "old": "<", "new": "<=", "line": 6}
    return [
        call("view", "6\t    return a < b", path="pkg/a.py"),
        call("edit", "changed", **edit),
        call("submit", ""),
    ]


def test_only_actions_are_learned_from_a_script_and_only_when_it_passed(codec: ChatCodec) -> None:
    samples = sft_samples(
        [played("good", 1.0, solving()), played("bad", 0.0, solving())],
        {"t1": task()},
        codec,
        tool_specs(),
        limit=512,
    )
    (sample,) = samples
    learned = [i for i, kept in zip(sample.ids, sample.mask, strict=True) if kept]
    wanted = [i for turn in solving() for i in codec.encode_action(turn.action.calls)]
    assert learned == wanted
    assert "Mend less." in codec.decode(sample.ids.tolist()) and "6\t    return a < b" in codec.decode(
        sample.ids.tolist()
    )


def test_token_episodes_are_learned_from_as_they_were_sampled(codec: ChatCodec) -> None:
    completion = Completion((5, 6), (-1.0, -1.0), (VersionSpan(0, 0, 2),))
    turn = Turn(Action((), "", (1, 2, 3), completion), (), 0.0, 0.0)
    (sample,) = sft_samples([played("tokens", 1.0, [turn])], {}, codec, tool_specs(), limit=512)
    assert sample.ids.tolist() == [1, 2, 3, 5, 6]
    assert sample.mask.tolist() == [False, False, False, True, True]


def test_what_cannot_be_written_down_is_left_out(codec: ChatCodec) -> None:
    strange = call("edit", "", path="a", old="</tool_call>", new="x")
    found = sft_samples(
        [played("strange", 1.0, [strange]), played("silent", 1.0, [])], {"t1": task()}, codec, [], limit=512
    )
    assert found == []
    assert sft_samples([played("unknown task", 1.0, solving())], {}, codec, [], limit=512) == []


class Counting:
    """Stands where a learner stands, and remembers what it was given."""

    def __init__(self) -> None:
        self.batches: list[list[Sample]] = []
        self.done: list[float] = []

    def step(self, samples: Sequence[Sample], loss: str, progress: float) -> dict[str, float]:
        assert loss == "trainer.algorithms.losses:weighted_nll"
        self.batches.append(list(samples))
        self.done.append(progress)
        return {"nll": 1.0 / len(self.batches)}


def rows(count: int) -> list[Sample]:
    return [from_transcript([n, n, n, n], [False, True, True, True], f"s{n}") for n in range(count)]


def test_an_epoch_is_every_sample_once() -> None:
    learner = Counting()
    settings = Sft(epochs=2, batch_tokens=20, minutes=5)
    summary = supervise(learner, replayed(rows(10), settings), settings)
    seen = [sample.trajectory for batch in learner.batches for sample in batch]
    assert sorted(seen[:10]) == sorted(seen[10:]) == sorted(f"s{n}" for n in range(10))
    assert (summary.steps, summary.tokens, summary.stopped_by) == (4, 80, "epochs")
    assert (summary.first_nll, summary.last_nll) == (1.0, 0.25)
    assert learner.done == sorted(learner.done)


def test_time_ends_it_too() -> None:
    settings = Sft(epochs=1e9, batch_tokens=16, minutes=0.002)
    summary = supervise(Counting(), replayed(rows(4), settings), settings)
    assert summary.stopped_by == "minutes"
    assert summary.seconds < 2


def test_a_tiny_model_learns_the_scripts_it_is_shown(folder: Path, codec: ChatCodec, toy_config) -> None:
    samples = sft_samples([played("good", 1.0, solving())], {"t1": task()}, codec, tool_specs(), limit=512)
    settings = {"optimizer": "muon", "learning_rate": 0.01, "epochs": 40, "batch_tokens": 16, "minutes": 2}
    config = toy_config(sft=settings, policy={"context_tokens": 512}, learner={"micro_batch_tokens": 512})
    learner = Learner(config, folder)
    learner.start("sft")
    summary = supervise(learner, replayed(samples, config.sft), config.sft)
    assert summary.first_nll > 4
    assert summary.last_nll < 0.5
