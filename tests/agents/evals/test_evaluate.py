"""Evaluation: every episode once, resumed where it stopped, and honest about what failed."""

import json
import os
import random
from dataclasses import replace

import pytest

from agents.evals.evaluate import EvalSettings, EvaluationError, EvaluationOutage, evaluate_tasks
from agents.executor import ThreadExecutor, episode_seed
from agents.policies.scripted import SUBMIT, OraclePolicy, ScriptedPolicy
from agents.runs.store import TrajectoryStore
from envs.types import ToolCall
from sandboxes.progress import silent

NOTHING = ScriptedPolicy([SUBMIT])


@pytest.fixture
def run(make_env, make_task, tmp_path):
    """Returns `run(policy, …)`, an evaluation of three tasks in `tmp_path/run`."""
    tasks = [make_task(f"t-{n}") for n in range(3)]

    def call(policy, *, env_options=None, progress=silent, **options):
        settings = EvalSettings(tmp_path / "run", split="heldout", samples=2)
        executor = ThreadExecutor(lambda: make_env(tasks, **(env_options or {})), 2)
        return evaluate_tasks(policy, tasks, executor, replace(settings, **options), progress=progress)

    return call


def stored(tmp_path):
    return list(TrajectoryStore(tmp_path / "run" / "trajectories").read())


def test_the_oracle_passes_everything_and_doing_nothing_passes_nothing(run, tmp_path):
    best, worst = run(OraclePolicy()), run(NOTHING, out=tmp_path / "other")
    assert (best.pass_rate, best.pass_rate_stderr, best.pass_at) == (1.0, 0.0, {"1": 1.0, "2": 1.0})
    assert (worst.pass_rate, worst.pass_at) == (0.0, {"1": 0.0, "2": 0.0})
    assert (best.policy, best.split, best.tasks, best.episodes) == ("oracle", "heldout", 3, 6)


def test_trajectories_and_summary_are_written(run, tmp_path):
    summary = run(OraclePolicy(), seed=10)
    found = stored(tmp_path)
    assert sorted(t.task_id for t in found) == sorted(2 * [f"t-{n}" for n in range(3)])
    assert len({t.seed for t in found}) == len(found), "no two episodes share their noise"
    assert {t.group for t in found} == {"eval/t-0", "eval/t-1", "eval/t-2"}
    written = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert written["pass_rate"] == summary.pass_rate == 1.0
    assert written["by_task"]["t-0"] == {"tasks": 1, "scored": 2, "pass_rate": 1.0}
    names = sorted(path.name for path in (tmp_path / "run").iterdir() if path.name != ".lock")
    assert names == ["summary.json", "trajectories"]


def test_an_existing_folder_is_refused_in_one_line_and_left_alone(run, tmp_path):
    run(OraclePolicy())
    before = (tmp_path / "run" / "summary.json").read_bytes()
    with pytest.raises(EvaluationError, match="exists; continue it with --resume") as caught:
        run(OraclePolicy())
    assert "\n" not in str(caught.value)
    assert (tmp_path / "run" / "summary.json").read_bytes() == before
    assert len(stored(tmp_path)) == 6


def test_an_empty_folder_is_as_good_as_none(run, tmp_path):
    (tmp_path / "run").mkdir()
    assert run(OraclePolicy()).episodes == 6


def test_resuming_runs_only_what_is_missing(run, tmp_path):
    first = run(OraclePolicy(), samples=1)
    ids = {t.id for t in stored(tmp_path)}
    second = run(OraclePolicy(), samples=3, resume=True)
    assert (first.episodes, second.episodes, len(stored(tmp_path))) == (3, 9, 9)
    assert ids < {t.id for t in stored(tmp_path)}
    again = run(OraclePolicy(), samples=3, resume=True)
    assert (again.pass_rate, again.episodes, len(stored(tmp_path))) == (1.0, 9, 9)


def test_an_interrupted_run_is_resumed_after_its_last_whole_trajectory(run, tmp_path):
    def interrupt(what, done, total):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(OraclePolicy(), progress=interrupt)
    assert len(stored(tmp_path)) == 3
    assert not (tmp_path / "run" / "summary.json").exists()
    (part,) = (tmp_path / "run" / "trajectories").iterdir()
    os.truncate(part, part.stat().st_size - 10)
    summary = run(OraclePolicy(), resume=True)
    assert (summary.pass_rate, summary.episodes, len(stored(tmp_path))) == (1.0, 6, 6)


def test_unscored_episodes_are_counted_and_tried_again_on_resume(run):
    broken = run(OraclePolicy(), env_options={"fail_on": ("reset",)})
    assert (broken.unscored, broken.scored, broken.pass_rate) == (6, 0, None)
    mended = run(OraclePolicy(), resume=True)
    assert (mended.unscored, mended.scored, mended.pass_rate) == (0, 6, 1.0)


def test_an_evaluation_in_which_nothing_works_any_more_gives_up(run, tmp_path):
    with pytest.raises(EvaluationOutage, match=r"last 8 episodes all failed \(SandboxLost: .* --resume"):
        run(OraclePolicy(), samples=50, env_options={"fail_on": ("reset",)})
    assert len(stored(tmp_path)) == 8


@pytest.mark.parametrize("changed", [{"policy": "endpoint:http://b/v1#m"}, {"temperature": 0.5}])
def test_a_folder_that_was_begun_with_other_settings_is_refused(run, tmp_path, changed):
    begun = {"policy": "endpoint:http://a/v1#m", "temperature": None}
    run(OraclePolicy(), manifest=begun)
    assert run(OraclePolicy(), resume=True, manifest=begun | {"versions": "new"}).episodes == 6
    (name,) = changed
    with pytest.raises(EvaluationError, match=f"was begun with {name} .*; name another folder"):
        run(OraclePolicy(), resume=True, manifest=begun | changed)


def test_a_folder_of_another_policy_is_refused(run):
    run(OraclePolicy())
    with pytest.raises(EvaluationError, match="holds episodes of 'oracle', not of 'scripted'"):
        run(NOTHING, resume=True)


def test_a_folder_of_changed_tasks_is_refused(run, make_env, make_task, tmp_path):
    run(OraclePolicy())
    changed = [make_task("t-0", instruction="Something else.")]
    with pytest.raises(EvaluationError, match="the task t-0 has changed"):
        evaluate_tasks(
            OraclePolicy(),
            changed,
            ThreadExecutor(lambda: make_env(changed), 1),
            EvalSettings(tmp_path / "run", resume=True),
        )


@pytest.mark.parametrize(
    ("options", "reason"), [({"samples": 0}, "samples must be at least 1"), ({"tasks": []}, "no tasks")]
)
def test_an_evaluation_of_nothing_is_refused_before_anything_is_written(tmp_path, options, reason, make_task):
    arguments = {"tasks": [make_task()], "samples": 1, **options}
    with pytest.raises(EvaluationError, match=reason):
        evaluate_tasks(
            NOTHING,
            arguments["tasks"],
            ThreadExecutor(lambda: None, 1),
            EvalSettings(tmp_path / "run", split="heldout", samples=arguments["samples"]),
        )
    assert not (tmp_path / "run").exists()


def test_a_policy_that_solves_some_tasks_is_measured_as_such(run):
    def script(task, seen):
        if task.id == "t-0" and len(seen) == 1:
            return ToolCall("", "edit", {"old": "bad", "new": "good"})
        return SUBMIT

    summary = run(ScriptedPolicy(script), samples=4)
    assert summary.pass_rate == pytest.approx(1 / 3)
    assert summary.pass_rate_stderr == pytest.approx(1 / 3)
    assert summary.by_task["t-0"].pass_rate == 1.0


def test_a_pass_rate_is_worth_as_many_episodes_as_it_has() -> None:
    """Engines draw the same noise for the same seed: episodes of one evaluation must not move together.

    A policy that passes half of the time by its seed's noise: the pass rate over 100 tasks has a variance of
    .25 / 100. With one seed for all tasks it would be .25, a hundred times as much.
    """
    rates = []
    for seed in range(200):
        passed = [random.Random(episode_seed(seed, f"t-{n}", 0)).random() < 0.5 for n in range(100)]
        rates.append(sum(passed) / len(passed))
    mean = sum(rates) / len(rates)
    variance = sum((rate - mean) ** 2 for rate in rates) / len(rates)
    assert abs(mean - 0.5) < 0.02
    assert variance < 2 * 0.25 / 100


def test_evaluations_of_another_seed_and_other_samples_are_independent_too() -> None:
    seeds = [episode_seed(seed, f"t-{task}", n) for seed in range(5) for task in range(40) for n in range(3)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**31 for seed in seeds)
