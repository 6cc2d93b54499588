"""The numbers of a step, counted by hand."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from agents.types import Action, Completion, Trajectory, Turn, VersionSpan
from envs.types import Observation, StopReason, ToolCall, Verdict
from trainer.algorithms.advantages import Advantages
from trainer.cluster.interruption import Interrupted, Interruption
from trainer.config import load
from trainer.metrics import Clock, episode_metrics, group_metrics

ROOT = Path(__file__).parents[2]


def episode(reward: float | None, stop: StopReason, *turns: Turn) -> Trajectory:
    verdict = None if reward is None else Verdict(reward == 1.0)
    return Trajectory("t", "task", "", "g", "p", 0, turns, stop, reward, verdict, duration_s=4.0)


def turn(*, wrong: bool = False, error: str = "") -> Turn:
    completion = Completion((1, 2), (-1.0, -1.0), (VersionSpan(0, 0, 2),))
    calls = () if error else (ToolCall("c", "view", {}),)
    return Turn(
        Action(calls, "", (7, 8, 9), completion, error), (Observation("x", wrong or bool(error)),), 1.0, 2.0
    )


def test_episodes_are_counted_and_unscored_ones_count_in_no_rate() -> None:
    row = episode_metrics(
        [
            episode(1.0, StopReason.SUBMITTED, turn(), turn(wrong=True)),
            episode(0.0, StopReason.FORMAT, turn(error="unreadable")),
            episode(None, StopReason.INFRA, turn()),
            episode(0.0, StopReason.MAX_TURNS),
        ]
    )
    assert (row["episodes"], row["unscored"]) == (4, 1)
    assert row["reward_mean"] == row["pass_rate"] == pytest.approx(1 / 3)
    assert (row["turns"], row["tool_calls"], row["tool_errors"], row["format_errors"]) == (
        1.0,
        0.75,
        0.25,
        0.25,
    )
    assert (row["prompt_tokens"], row["completion_tokens"]) == (3.0, 2.0)
    assert (row["stop_submitted"], row["stop_format"], row["stop_infra"], row["stop_time"]) == (1, 1, 1, 0)
    assert (row["episode_s"], row["generate_s"], row["act_s"]) == (4.0, 1.0, 2.0)


def test_verdicts_from_memory_are_counted_apart_from_gradings() -> None:
    graded = episode(1.0, StopReason.SUBMITTED)
    remembered = replace(graded, verdict=Verdict(True, remembered=True))
    row = episode_metrics([graded, remembered, remembered, episode(None, StopReason.INFRA)])
    assert (row["gradings"], row["graded_from_memory"]) == (1, 2)


def test_nothing_scored_has_no_rate() -> None:
    row = episode_metrics([episode(None, StopReason.INFRA)])
    assert row["reward_mean"] is None and row["pass_rate"] is None


def test_groups_say_why_they_taught_nothing() -> None:
    row = group_metrics(Advantages({}, live=2, mixed=1, no_spread=2, too_few=3))
    assert row == {
        "groups": 7,
        "live_groups": 2,
        "mixed_groups": 1,
        "groups_without_spread": 2,
        "groups_too_small": 3,
    }


def test_the_clock_counts_phases_even_when_they_fail() -> None:
    clock = Clock()
    with pytest.raises(ValueError, match="x"), clock.phase("work"):
        raise ValueError("x")
    with clock.phase("work"):
        pass
    row = clock.row()
    assert set(row) == {"work_s", "step_s"}
    assert 0 <= float(row["work_s"] or 0) <= float(row["step_s"] or 0)


@pytest.mark.usefixtures("interruptible")
def test_a_first_signal_asks_and_a_second_one_ends() -> None:
    with Interruption() as interruption:
        interruption.check()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(Interrupted):
            interruption.check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("interruptible")
def test_a_signal_that_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        assert not interruption.requested()


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Interruption():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("name", ["tiny", "qwen3"])
def test_the_configurations_that_are_shipped_are_valid(name: str) -> None:
    assert load(ROOT / "configs" / f"{name}.toml").rl.samples_per_task >= 2
