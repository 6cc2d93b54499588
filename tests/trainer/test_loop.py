"""The loop with the real learner and a task small enough to be learned in seconds."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file

from agents.runs.folder import read_metrics
from agents.types import Trajectory
from envs.types import StopReason
from sandboxes.progress import Progress, silent
from tests.trainer.bandit import BanditActors, Bar
from trainer.algorithms.advantages import AdvantageInputs
from trainer.algorithms.losses import LossInputs, LossOutputs
from trainer.algorithms.rewards import RewardInputs, outcome_of
from trainer.cluster.interruption import Interruption
from trainer.config import Config, TrainError, to_toml
from trainer.data.buffer import Group
from trainer.learning.learner import Learner
from trainer.loop import TrainSummary, learn
from trainer.run import TrainingRun

pytestmark = pytest.mark.train

BANDIT = {"steps": 60, "tasks_per_step": 4, "samples_per_task": 16, "learning_rate": 0.01}


def play(path: Path, config: Config, model: Path, **options) -> tuple[TrainSummary, list[dict]]:
    learner = Learner(config, model)
    with TrainingRun.begin(path, config) as run:
        summary = learn(run, learner, BanditActors(learner, **options), interruption=Interruption())
        return summary, run.metrics()


SEEDS = range(5)
FAST = {"eval": {"every": 0}, "checkpoint": {"every": 1000}}


def play_all(
    path: Path, toy_config, model: Path, rl: dict, **options
) -> list[tuple[TrainSummary, list[dict]]]:
    """One run a seed."""
    return [
        play(path / str(seed), toy_config(seed=seed, rl=rl, **FAST), model, seed=seed, **options)
        for seed in SEEDS
    ]


@pytest.mark.parametrize(
    ("advantage", "minibatches"), [("mean", 1), ("mean", 2), ("mean_std", 1), ("leave_one_out", 1)]
)
def test_the_right_answers_are_learned(
    toy_config, toy_model, tmp_path, advantage: str, minibatches: int
) -> None:
    """20 seeds each or more, measured, where the bar is a mean of .6 and a worst run of .4.

    `mean` .955, worst .742; with two minibatches .966, .746; `mean_std` .987, .749; `leave_one_out` .905,
    .497. A control (the test below) ends at .018 in the mean and at .081 at best. Two updates take half
    the learning rate: at the whole of it some runs settle on wrong answers (.25).
    """
    rl = {**BANDIT, "advantage": advantage, "minibatches": minibatches, "learning_rate": 0.01 / minibatches}
    played = play_all(tmp_path, toy_config, toy_model, rl)
    assert all(summary.heldout_first < 0.2 for summary, _ in played)
    assert Bar().is_met([summary.heldout_last for summary, _ in played])
    assert all(summary.reward_last > summary.reward_first for summary, _ in played)
    assert max(row.get("mismatch_abs_max", 0) for _, rows in played for row in rows) < 1e-4


def test_rewards_by_chance_teach_nothing(toy_config, toy_model, tmp_path) -> None:
    """20 seeds, measured: mean .018, the best run .081; the bar of the test above is .6 and .4."""
    played = play_all(tmp_path, toy_config, toy_model, BANDIT, chance_reward=0.5)
    ends = [summary.heldout_last for summary, _ in played]
    assert not Bar().is_met(ends)
    assert sum(ends) / len(ends) < 0.3
    for _, rows in played:
        assert any(row.get("live_groups") for row in rows), "there was something to learn from: noise"


def hit(inputs: RewardInputs) -> list[float]:
    """A reward of one's own."""
    return [inputs.settings.settings["worth"] * outcome_of(trajectory) for trajectory in inputs.trajectories]


def ranked(inputs: AdvantageInputs) -> list[float]:
    """An advantage of one's own."""
    best = max(inputs.rewards)
    return [inputs.settings["up"] if reward == best else -0.1 for reward in inputs.rewards]


def reinforce(inputs: LossInputs) -> LossOutputs:
    """A loss of one's own."""
    objective_N = inputs.settings["scale"] * inputs.advantages_N * inputs.logprobs_N
    return LossOutputs(-(objective_N * inputs.weights_N).sum(), {})


@pytest.mark.parametrize("own", ["reward", "advantage", "loss"])
def test_an_algorithm_of_one_s_own_is_named_and_learns(toy_config, toy_model, tmp_path, own: str) -> None:
    """Nothing of the trainer is edited: each part is a function of this file."""
    here = "tests.trainer.test_loop"
    rl, reward = dict(BANDIT), {}
    if own == "reward":
        reward = {"mode": f"{here}:hit", "settings": {"worth": 2.0}}
    elif own == "advantage":
        rl |= {"advantage": f"{here}:ranked", "advantage_settings": {"up": 1.0}}
    else:
        rl |= {"loss": f"{here}:reinforce", "loss_settings": {"scale": 1.5}}
    played = [
        play(tmp_path / str(seed), toy_config(seed=seed, rl=rl, reward=reward, **FAST), toy_model, seed=seed)
        for seed in range(3)
    ]
    assert Bar().is_met([summary.heldout_last for summary, _ in played])
    note = f"Reward of its own: {here}:hit, not the outcome alone." if own == "reward" else None
    assert {summary.reward_note for summary, _ in played} == {note}


def test_a_name_that_cannot_be_imported_ends_training_before_it_starts(
    toy_config, toy_model, tmp_path
) -> None:
    with pytest.raises(TrainError, match="the loss 'nowhere:loss' cannot be imported: no module 'nowhere'"):
        play(tmp_path / "run", toy_config(rl={"loss": "nowhere:loss"}), toy_model)


def test_a_frozen_policy_stays_as_it_is(toy_config, toy_model, tmp_path) -> None:
    config = toy_config(rl={**BANDIT, "steps": 5, "learning_rate": 1e-30})
    summary, _ = play(tmp_path / "run", config, toy_model)
    assert summary.heldout_last == summary.heldout_first


def test_every_step_says_what_happened(toy_config, toy_model, tmp_path) -> None:
    config = toy_config(rl={**BANDIT, "steps": 3}, eval={"every": 2}, checkpoint={"every": 2, "keep": 2})
    summary, rows = play(tmp_path / "run", config, toy_model)
    steps = [row for row in rows if "reward_mean" in row]
    assert [row["step"] for row in steps] == [1, 2, 3]
    wanted = {
        "pass_rate",
        "live_groups",
        "unscored",
        "stop_submitted",
        "format_errors",
        "sample_s",
        "update_s",
    }
    assert all(wanted <= set(row) for row in steps)
    learned = {"entropy", "mismatch_abs", "clip_fraction", "grad_norm", "tokens_per_s", "staleness"}
    assert all(learned <= set(row) or row["live_groups"] == 0 for row in steps)
    assert any(row["live_groups"] for row in steps)
    assert [row["step"] for row in rows if "heldout_pass_rate" in row] == [0, 2, 3]
    assert (summary.steps, summary.episodes, summary.interrupted) == (3, 192, False)
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == [
        "step-000002",
        "step-000003",
    ]


def test_groups_that_teach_nothing_are_refilled_up_to_the_limit(toy_config, toy_model, tmp_path) -> None:
    settings = {**BANDIT, "steps": 1, "refill": 6}
    _, rows = play(tmp_path / "run", toy_config(rl=settings), toy_model, chance_reward=0.0)
    (row,) = [row for row in rows if "reward_mean" in row]
    assert (row["groups"], row["live_groups"], row["groups_without_spread"]) == (10, 0, 10)
    assert row["version"] == 0, "without a signal there is no update"


def gone(trajectory: Trajectory) -> Trajectory:
    """The same episode, lost to its sandbox."""
    return dataclasses.replace(
        trajectory, reward=None, verdict=None, stop=StopReason.INFRA, error="SandboxLost: gone"
    )


class Unordered(BanditActors):
    """Finishes groups in the order of nobody's asking."""

    def ready(self, progress: Progress = silent) -> Iterator[Group]:
        yield from reversed(list(super().ready(progress)))


def test_the_order_in_which_groups_finish_changes_nothing(toy_config, toy_model, tmp_path) -> None:
    config = toy_config(rl={**BANDIT, "steps": 4, "minibatches": 2})
    ends = []
    for kind in (BanditActors, Unordered):
        learner = Learner(config, toy_model)
        with TrainingRun.begin(tmp_path / kind.__name__, config) as run:
            learn(run, learner, kind(learner), interruption=Interruption())
        ends.append([parameter.detach().clone() for parameter in learner.model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*ends, strict=True))


class Failing(BanditActors):
    """Loses a part of its episodes to the sandbox."""

    lost = 0.6

    def ready(self, progress: Progress = silent) -> Iterator[Group]:
        groups = list(super().ready(progress))
        left = int(self.lost * sum(len(group.trajectories) for group in groups))
        for group in groups:
            lost = min(left, len(group.trajectories))
            left -= lost
            yield Group(group.name, (*map(gone, group.trajectories[:lost]), *group.trajectories[lost:]))


def test_an_outage_stops_training_in_one_line_and_keeps_what_was_learned(
    toy_config, toy_model, tmp_path
) -> None:
    config = toy_config(rl={**BANDIT, "steps": 2})
    learner = Learner(config, toy_model)
    with (
        TrainingRun.begin(tmp_path / "run", config) as run,
        pytest.raises(TrainError, match=r"38 of 64 .*SandboxLost: gone") as caught,
    ):
        learn(run, learner, Failing(learner), interruption=Interruption())
    assert "\n" not in str(caught.value)
    assert [step for step, _ in run.checkpoints()] == [0]


class Breaking(BanditActors):
    """Fails once, in one phase of one step."""

    def __init__(self, learner: Learner, phase: str, step: int) -> None:
        super().__init__(learner)
        self.phase, self.due, self.now = phase, step, 0

    def fail(self, phase: str, step: int) -> None:
        if (phase, step) == (self.phase, self.due):
            self.phase = "over"
            raise TrainError(f"{phase} failed")

    def ready(self, progress: Progress = silent) -> Iterator[Group]:
        self.now = int(self._started[0][0].split("/")[0].removeprefix("step-"))
        self.fail("sample", self.now)
        yield from super().ready(progress)

    def publish(self) -> int:
        self.fail("publish", self.now)
        return super().publish()

    def evaluate(self, step: int, progress: Progress = silent) -> float:
        self.fail("evaluate", step)
        return super().evaluate(step, progress)


EXACT = {**BANDIT, "steps": 6, "tasks_per_step": 3, "warmup_steps": 2, "final_learning_rate": 0.1}


@pytest.mark.parametrize("phase", ["sample", "update", "publish", "evaluate"])
def test_a_failure_in_any_phase_keeps_every_finished_step_and_resumes_to_the_same_bits(
    toy_config, toy_model, tmp_path, monkeypatch, phase: str
) -> None:
    config = toy_config(rl=EXACT, checkpoint={"every": 1000, "keep": 2}, eval={"every": 2})
    play(tmp_path / "straight", config, toy_model)
    learner, out = Learner(config, toy_model), tmp_path / "broken"
    actors = Breaking(learner, phase, 4)
    if phase == "update":
        honest = learner.step

        def step(*arguments, **options):
            actors.fail("update", actors.now)
            return honest(*arguments, **options)

        monkeypatch.setattr(learner, "step", step)
    with TrainingRun.begin(out, config) as run, pytest.raises(TrainError, match=f"{phase} failed"):
        learn(run, learner, actors, interruption=Interruption())
    finished = 4 if phase in ("publish", "evaluate") else 3
    with TrainingRun.go_on(out) as run:
        assert [step for step, _ in run.checkpoints()][-1] == finished
        again = Learner(config, toy_model)
        learn(run, again, BanditActors(again), interruption=Interruption())
    ends = [
        load_file(tmp_path / name / "checkpoints/step-000006/model/model.safetensors")
        for name in ("straight", "broken")
    ]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    straight, broken = (
        [(row["step"], row.get("heldout_pass_rate")) for row in read_metrics(tmp_path / name)]
        for name in ("straight", "broken")
    )
    assert broken == straight, "no row and no evaluation is missing or made twice"


def test_evaluations_of_lost_weights_are_not_read_back(toy_config, toy_model, tmp_path) -> None:
    config = toy_config(rl={**BANDIT, "steps": 2}, eval={"every": 1})
    forgotten: list[int] = []
    learner = Learner(config, toy_model)
    actors = BanditActors(learner)
    actors.forget_after = forgotten.append
    with TrainingRun.begin(tmp_path / "run", config) as run:
        learn(run, learner, actors, interruption=Interruption())
    assert forgotten == [0]
    with TrainingRun.go_on(tmp_path / "run") as run:
        learn(run, learner, actors, interruption=Interruption())
    assert forgotten == [0, 2]


def test_the_learning_rate_follows_the_steps_and_not_the_clock(toy_config, toy_model, tmp_path) -> None:
    """A limit on the time cuts the schedule off, and does not press it together."""
    rl = {**BANDIT, "steps": 8, "warmup_steps": 2, "final_learning_rate": 0.2}
    _, plain = play(tmp_path / "plain", toy_config(rl=rl, **FAST), toy_model)
    _, limited = play(tmp_path / "limited", toy_config(rl={**rl, "minutes": 0.0005}, **FAST), toy_model)
    factors = [
        {row["step"]: row["learning_rate_factor"] for row in rows if "learning_rate_factor" in row}
        for rows in (plain, limited)
    ]
    assert 1 <= len(factors[1]) < len(factors[0])
    assert all(factors[0][step] == factor for step, factor in factors[1].items())


def test_somebody_who_asks_for_an_end_gets_a_checkpoint(toy_config, toy_model, tmp_path) -> None:
    config = toy_config(rl={**BANDIT, "steps": 50})
    learner, interruption = Learner(config, toy_model), Interruption()

    def ask(group: str) -> None:
        if group.startswith("step-3/0/"):
            signal.raise_signal(signal.SIGTERM)

    with TrainingRun.begin(tmp_path / "run", config) as run, interruption:
        summary = learn(run, learner, BanditActors(learner, on_collect=ask), interruption=interruption)
        assert (summary.interrupted, summary.steps) == (True, 3)
        assert run.checkpoints()[-1][0] == 3


RESUMED = """
import os, signal, sys
from pathlib import Path
from tests.trainer.bandit import BanditActors, Bar
from trainer.config import load
from trainer.cluster.interruption import Interruption
from trainer.learning.learner import Learner
from trainer.loop import learn
from trainer.run import TrainingRun

out, config, model, when = Path(sys.argv[1]), load(Path(sys.argv[2])), sys.argv[3], sys.argv[4]

def die():
    os.kill(os.getpid(), signal.SIGKILL)

class Mortal(Learner):
    def save(self, folder):
        super().save(folder)
        if when == "saving" and "000004" in str(folder):
            die()

learner = Mortal(config, model)
def on_collect(name):
    if when == "playing" and name.startswith("step-4/1/"):
        die()
with TrainingRun.go_on(out) if out.exists() else TrainingRun.begin(out, config) as run:
    learn(run, learner, BanditActors(learner, on_collect=on_collect), interruption=Interruption())
"""


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bits(toy_config, toy_model, tmp_path) -> None:
    rl = {
        **BANDIT,
        "steps": 6,
        "warmup_steps": 2,
        "final_learning_rate": 0.1,
        "minibatches": 2,
        "tasks_per_step": 3,
    }
    config = toy_config(rl=rl, checkpoint={"every": 1, "keep": 2}, eval={"every": 3})
    (tmp_path / "config.toml").write_text(to_toml(config))
    straight, broken = tmp_path / "straight", tmp_path / "broken"

    def run(dies: str) -> int:
        command = [sys.executable, "-c", RESUMED, broken, tmp_path / "config.toml", toy_model, dies]
        return subprocess.run(command, timeout=120, check=False, cwd=Path(__file__).parents[2]).returncode

    play(straight, config, toy_model)
    assert run("playing") == -signal.SIGKILL
    assert [path.name for path in sorted(broken.glob("checkpoints/step-*"))][-1] == "step-000003"
    assert run("saving") == -signal.SIGKILL
    assert not (broken / "checkpoints" / "step-000004").exists(), "half a checkpoint is none"
    assert run("never") == 0
    one, other = (
        load_file(out / "checkpoints/step-000006/model/model.safetensors") for out in (straight, broken)
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert [timeless(row) for row in read_metrics(straight)] == [
        timeless(row) for row in read_metrics(broken)
    ]
    assert not list((broken / "checkpoints").glob(".*")), "what the killed processes left is gone"


def timeless(row: dict) -> dict:
    return {name: value for name, value in row.items() if not name.endswith("_s")}
