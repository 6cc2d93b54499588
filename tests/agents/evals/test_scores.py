"""Figures of an evaluation, against numbers worked out by hand and by simulation."""

import itertools
import math
import random
from statistics import fmean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.evals.scores import clustered_stderr, pass_at_k, summarize
from agents.types import Action, Completion, Trajectory, Turn, VersionSpan
from envs.types import Observation, StopReason, Verdict


def episode(task, resolved, seed=0, **fields):
    verdict = None if resolved is None else Verdict(resolved, failed=() if resolved else ("t",))
    defaults = {
        "id": f"{task.id}-{seed}",
        "task_id": task.id,
        "task_hash": task.hash,
        "group": "",
        "policy": "p",
        "seed": seed,
        "turns": (),
        "stop": StopReason.INFRA if resolved is None else StopReason.SUBMITTED,
        "reward": None if resolved is None else float(resolved),
        "verdict": verdict,
        "duration_s": 2.0,
    }
    return Trajectory(**{**defaults, **fields})


def summary(trajectories, tasks, samples):
    return summarize(trajectories, tasks, policy="p", split=None, samples=samples, seed=0, wall_s=1.0)


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.integers(1, 8))
def test_pass_at_k_is_the_share_of_k_tries_with_a_success(outcomes, k):
    subsets = list(itertools.combinations(outcomes, k))
    expected = fmean(any(subset) for subset in subsets) if subsets else None
    assert pass_at_k([outcomes], k) == (expected if expected is None else pytest.approx(expected))


def test_pass_at_k_leaves_out_tasks_with_fewer_tries():
    assert pass_at_k([[True], [True, False]], 2) == 1.0
    assert pass_at_k([[True], []], 2) is None


def test_the_standard_error_is_that_of_the_mean_of_equally_tried_tasks():
    outcomes = [[True] * 4, [False] * 4, [True, True, False, False], [True, False, False, False]]
    rates = [fmean(found) for found in outcomes]
    assert clustered_stderr(outcomes) == pytest.approx(stdev(rates) / math.sqrt(4))


def test_the_standard_error_covers_what_happens_when_tasks_differ():
    rng = random.Random(3)
    estimates, errors = [], []
    for _ in range(400):
        difficulty = [rng.random() for _ in range(30)]
        outcomes = [[rng.random() < p for _ in range(rng.choice([2, 4, 8]))] for p in difficulty]
        estimates.append(sum(map(sum, outcomes)) / sum(map(len, outcomes)))
        errors.append(clustered_stderr(outcomes))
    assert fmean(errors) == pytest.approx(stdev(estimates), rel=0.15)


def test_one_task_gives_no_standard_error():
    assert clustered_stderr([[True, False], []]) is None


def test_unscored_episodes_are_counted_and_count_in_no_rate(make_task):
    one, two = make_task("1"), make_task("2")
    found = [episode(one, True), episode(one, None), episode(two, False), episode(two, None, seed=1)]
    result = summary(found, [one, two], 2)
    assert (result.episodes, result.scored, result.unscored, result.resolved) == (4, 2, 2, 1)
    assert result.pass_rate == 0.5
    assert result.pass_at == {"1": 0.5}
    assert result.stops == {"infra": 2, "submitted": 2}


def test_nothing_scored_is_no_rate_rather_than_zero(make_task):
    task = make_task()
    result = summary([episode(task, None)], [task], 1)
    assert (result.pass_rate, result.pass_rate_stderr, result.pass_at) == (None, None, {})
    assert result.by_task[task.id].pass_rate is None


def test_rates_are_broken_down_by_traits(make_task):
    tasks = [make_task(str(n), traits={"kind": "swap" if n % 2 else "drop", "lines": n}) for n in range(20)]
    result = summary([episode(task, n < 10) for n, task in enumerate(tasks)], tasks, 1)
    assert set(result.by_trait) == {"kind"}, "a trait that is different everywhere explains nothing"
    assert result.by_trait["kind"]["swap"].tasks == 10
    assert result.by_trait["kind"]["swap"].pass_rate == 0.5
    assert result.by_task["3"].pass_rate == 1.0


def test_turns_tokens_errors_and_tampering_are_counted(make_task):
    task = make_task()
    completion = Completion((1, 2, 3), (0.0,) * 3, (VersionSpan(0, 0, 3),))
    good = Turn(Action((), prompt_ids=(1, 2), completion=completion), (Observation("x"),), 1.0, 1.0)
    wrong = Turn(Action((), error="no call"), (Observation("y"),), 1.0, 1.0)
    cheat = Verdict(False, tampered=("conftest.py",))
    result = summary(
        [
            episode(task, False, turns=(good, good, wrong)),
            episode(task, False, seed=1, turns=(good,), verdict=cheat, stop=StopReason.TIME),
        ],
        [task],
        4,
    )
    assert (result.mean_turns, result.format_errors, result.tampered) == (2.0, 1, 1)
    assert (result.prompt_tokens, result.sampled_tokens) == (6, 9)
    assert (result.episode_s, result.wall_s) == (4.0, 1.0)
    assert result.stops == {"submitted": 1, "time": 1}
    assert set(result.pass_at) == {"1", "2"}, "no task has four scored episodes"
