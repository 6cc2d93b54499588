"""What is trained on: the outcome by default, and controls that carry nothing of it."""

from __future__ import annotations

import dataclasses
import json
import signal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.types import Action, Completion, Trajectory, Turn, VersionSpan
from agents.viewer.report import write_report
from envs.types import StopReason, Verdict
from trainer.algorithms.advantages import group_advantages
from trainer.algorithms.rewards import outcome_correlation, shaped, step_rewards
from trainer.config import ConfigError, Reward
from trainer.metrics import episode_metrics

UNINFORMED = ("random", "shuffled", "constant")


def episode(number: int, *, resolved: bool = False, group: str = "g", **changes) -> Trajectory:
    tokens = changes.pop("tokens", 1)
    said = Completion((1,) * tokens, (-1.0,) * tokens, (VersionSpan(0, 0, tokens),))
    action = Action((), completion=said, error=changes.pop("error", ""))
    fields = {
        "id": f"{group}/{number}",
        "task_id": "t",
        "task_hash": "",
        "group": group,
        "policy": "p",
        "seed": number,
        "turns": (Turn(action, (), 0.0, 0.0),),
        "stop": StopReason.SUBMITTED,
        "reward": float(resolved),
        "verdict": Verdict(resolved, passed=("t",)) if resolved else Verdict(False, failed=("t",)),
    }
    return Trajectory(**{**fields, **changes})


def step_of(groups: int = 20, size: int = 16, solved_in: int = 3) -> list[Trajectory]:
    """Every third episode is solved, in every group."""
    return [
        episode(number, resolved=number % solved_in == 0, group=f"step/{group}")
        for group in range(groups)
        for number in range(size)
    ]


def rewards(trajectories, *, seed: int = 1, step: int = 1, **options) -> dict[str, float]:
    return step_rewards(trajectories, Reward(**options), seed=seed, step=step, budget=100)


def test_by_default_the_outcome_is_the_reward() -> None:
    played = [*step_of(2), episode(99, reward=None, verdict=None, stop=StopReason.INFRA)]
    assert rewards(played) == {t.id: t.reward for t in played if t.reward is not None}


@pytest.mark.parametrize("mode", UNINFORMED)
def test_controls_say_nothing_of_the_outcome_within_groups(mode: str) -> None:
    found = []
    for step in range(30):
        played = step_of()
        given_ = rewards(played, mode=mode, step=step)
        assert set(given_) == {t.id for t in played}
        found.append(outcome_correlation(played, given_))
    if mode == "constant":
        assert found == [None] * 30
        return
    # 30 steps of 320 episodes: the mean correlation has a standard error of about 0.01.
    assert abs(sum(found) / len(found)) < 0.04
    assert min(found) < 0 < max(found)


def test_the_outcome_correlates_with_itself() -> None:
    played = step_of()
    assert outcome_correlation(played, rewards(played)) == pytest.approx(1.0)


def test_shuffled_rewards_are_the_step_s_outcomes_dealt_anew() -> None:
    played = step_of()
    given_ = rewards(played, mode="shuffled")
    assert sorted(given_.values()) == sorted(t.reward for t in played)
    assert given_ != rewards(played)
    assert given_ != rewards(played, mode="shuffled", step=2)
    assert given_ != rewards(played, mode="shuffled", seed=2)


@pytest.mark.parametrize("mode", ["random", "shuffled"])
def test_rewards_depend_on_what_was_asked_for_and_not_on_ids_of_the_moment(mode: str) -> None:
    played = step_of()
    again = [dataclasses.replace(t, id=f"other-{number}") for number, t in enumerate(played)]
    assert list(rewards(played, mode=mode).values()) == list(rewards(again, mode=mode).values())


def test_format_is_rewarded_for_handing_in_readable_actions() -> None:
    good, cut, garbled = episode(0), episode(1, stop=StopReason.TIME), episode(2, error="no call")
    assert list(rewards([good, cut, garbled], mode="format").values()) == [1.0, 0.0, 0.0]


def test_options_add_to_the_outcome_by_their_weights() -> None:
    half = episode(0, verdict=Verdict(False, passed=("a",), missing=("b",)), tokens=50)
    assert shaped(half, Reward(partial=0.5), budget=100) == 0.25
    solved = episode(2, verdict=Verdict(True, passed=("a",)), tokens=50)
    assert shaped(solved, Reward(length=0.4), budget=100) == pytest.approx(0.8)
    assert shaped(solved, Reward(length=0.4), budget=10) == pytest.approx(0.6)
    assert shaped(half, Reward(length=0.4), budget=100) == 0.0, "failing briefly is no merit"
    assert shaped(half, Reward(format=0.3), budget=100) == 0.3
    tampered = episode(1, verdict=Verdict(False, passed=("a", "b"), tampered=("tests/a.py: changed",)))
    assert shaped(tampered, Reward(partial=1.0), budget=100) == 0.0


VERDICTS = st.builds(
    lambda passed, failed: Verdict(not failed, ("p",) * passed, ("f",) * failed),
    st.integers(0, 50),
    st.integers(1, 50),
)


@settings(deadline=None)
@given(
    VERDICTS,
    st.sampled_from([0, 1, 99, 100, 200]),
    st.floats(0, 1),
    st.floats(0, 0.99),
    st.floats(0, 1),
)
def test_no_failed_episode_earns_as_much_as_a_solved_one(verdict, tokens, partial, length, share) -> None:
    options = Reward(partial=partial, length=length, format=min(0.99 - length, share))
    failed = episode(0, verdict=verdict)
    solved = episode(1, resolved=True, tokens=tokens, stop=StopReason.TIME)
    assert shaped(failed, options, budget=100) < shaped(solved, options, budget=100)


def test_advantages_and_metrics_keep_reward_and_outcome_apart() -> None:
    played = [episode(n, resolved=n == 0) for n in range(4)]
    given_ = {t.id: float(t.id.endswith("/3")) for t in played}
    values = group_advantages(played, rewards=given_).values
    assert max(values, key=values.__getitem__) == "g/3"
    row = episode_metrics([*played, *(episode(9, resolved=True),)], {**given_, "g/9": 1.0})
    assert (row["reward_mean"], row["pass_rate"]) == (0.4, 0.4)
    row = episode_metrics(played, dict.fromkeys(given_, 1.0))
    assert (row["reward_mean"], row["pass_rate"]) == (1.0, 0.25)
    assert row["reward_outcome_correlation"] is None


def run(path: Path, config, model: Path, *, seed: int = 0, stop_at: str = "", resume: bool = False):
    """The bandit through the real loop; a signal comes when the group `stop_at` is played."""
    from tests.trainer.bandit import BanditActors
    from trainer.cluster.interruption import Interruption
    from trainer.learning.learner import Learner
    from trainer.loop import learn
    from trainer.run import TrainingRun

    def ask(group: str) -> None:
        if stop_at and group.startswith(stop_at):
            signal.raise_signal(signal.SIGTERM)

    learner, interruption = Learner(config, model), Interruption()
    opened = TrainingRun.go_on(path) if resume else TrainingRun.begin(path, config)
    with opened as folder, interruption:
        actors = BanditActors(learner, seed=seed, on_collect=ask)
        return learn(folder, learner, actors, interruption=interruption), folder.metrics()


BANDIT = {"steps": 40, "tasks_per_step": 4, "samples_per_task": 16, "learning_rate": 0.01}


@pytest.mark.train
@pytest.mark.parametrize("mode", ["outcome", *UNINFORMED])
def test_only_the_outcome_teaches_and_a_control_says_what_it_is(
    toy_config, toy_model, tmp_path, mode: str
) -> None:
    """20 seeds each, measured, where the bar is a mean of .6 and a worst run of .4:

    `outcome` mean .937, worst .745; `shuffled` mean .025, best .074; `random` mean .039, best .216.
    """
    from tests.trainer.bandit import Bar

    ends = []
    for seed in range(5):
        config = toy_config(
            seed=seed, rl=BANDIT, reward={"mode": mode}, eval={"every": 0}, checkpoint={"every": 1000}
        )
        summary, rows = run(tmp_path / str(seed), config, toy_model, seed=seed)
        ends.append(summary.heldout_last)
    steps = [row for row in rows if "reward_mean" in row]
    assert all("pass_rate" in row for row in steps)
    page = write_report(tmp_path / "4").read_text()
    assert Bar().is_met(ends) == (mode == "outcome")
    if mode == "outcome":
        assert summary.pass_rate_last == summary.reward_last > summary.pass_rate_first
        assert summary.reward_note is None
        assert 'class="banner"' not in page
        return
    assert sum(ends) / len(ends) < 0.3
    assert summary.reward_note.startswith(f'Control run (reward.mode = "{mode}")')
    assert page.count('class="banner"') == 1
    if mode == "constant":
        assert {row["reward_mean"] for row in steps} == {1.0}
        assert {row["version"] for row in steps} == {0}, "equal rewards teach nothing"
    else:
        assert any(row["live_groups"] for row in steps), "there was something to learn from: noise"


@pytest.mark.train
def test_a_resumed_run_is_rewarded_as_it_would_have_been(toy_config, toy_model, tmp_path) -> None:
    config = toy_config(
        rl={**BANDIT, "steps": 6}, reward={"mode": "random", "chance": 0.3}, checkpoint={"every": 1}
    )
    _, straight = run(tmp_path / "straight", config, toy_model)
    summary, _ = run(tmp_path / "broken", config, toy_model, stop_at="step-3/0/")
    assert summary.interrupted
    _, resumed = run(tmp_path / "broken", config, toy_model, resume=True)

    def column(rows):
        return [(row["step"], row["reward_mean"], row["pass_rate"]) for row in rows if "reward_mean" in row]

    assert column(resumed) == column(straight)
    assert json.dumps(column(straight)) != json.dumps([]) and len(column(straight)) == 6


@pytest.mark.parametrize(
    ("reward", "sentence"),
    [
        (
            {"mode": "length"},
            "reward.mode: there is no reward 'length': use outcome, .*, or module:attribute of one of yours",
        ),
        ({"mode": "random", "partial": 0.2}, r"reward: mode = \"random\" is a control .* no partial"),
        ({"length": 0.5, "format": 0.5}, "reward: length and format together must stay below 1"),
    ],
)
def test_a_reward_that_makes_no_sense_is_refused_in_one_line(toy_config, reward, sentence) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        toy_config(reward=reward)
    assert "\n" not in str(caught.value)
