"""The teacher knows only what was shown, fails often, and is the same in memory as in sandboxes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agents.policies.teacher import Habits, TeacherPolicy
from agents.rollout import run_episode
from agents.types import Trajectory
from envs.coding import CodingEnv
from envs.register import RegisterSettings, register_practice
from envs.register.practice.playing import MemoryEnv, MemoryTaskSet
from envs.register.practice.repository import draw_repository
from envs.tasksets.taskset import load_taskset
from envs.types import StopReason
from sandboxes import Backend, SandboxUnavailable, connect


def played(seed: int, policy: TeacherPolicy, *, split: str = "train") -> list[Trajectory]:
    name = f"test {split} {seed}"
    taskset = MemoryTaskSet.of(draw_repository(name, split), name, split)
    return [run_episode(MemoryEnv(taskset), policy, task=task, seed=seed) for task in taskset.tasks]


@pytest.mark.slow
def test_it_solves_some_of_every_family_and_fails_some_of_every_family() -> None:
    rewards = defaultdict(list)
    for seed in range(150):
        name = f"families {seed}"
        taskset = MemoryTaskSet.of(draw_repository(name, "train"), name, "train")
        for task in taskset.tasks:
            trajectory = run_episode(MemoryEnv(taskset), TeacherPolicy(), task=task, seed=seed)
            assert trajectory.stop in (StopReason.SUBMITTED, StopReason.MAX_TURNS)
            rewards[task.traits["family"]].append(trajectory.reward)
    rates = {family: sum(scores) / len(scores) for family, scores in rewards.items()}
    assert set(rates) == {"code", "test", "pr", "two", "alias"}
    assert all(0.02 < rate < 0.9 for rate in rates.values()), rates
    assert 0.2 < sum(map(sum, rewards.values())) / sum(map(len, rewards.values())) < 0.6


def test_it_does_not_read_the_answer() -> None:
    taskset = MemoryTaskSet.of(draw_repository(7, "train"), "answer", "train")
    task = taskset.tasks[0]
    blind = replace(task, reference_patch="", fail_to_pass=("x",), hidden_tests=(), traits={})
    for seed in range(10):
        seeing = run_episode(MemoryEnv(taskset), TeacherPolicy(), task=task, seed=seed)
        session = TeacherPolicy().start(blind, [], replace(_first(task)), seed=seed)
        for turn in seeing.turns:
            action = session.act(deadline=float("inf"))
            assert not isinstance(action, StopReason)
            assert action.calls[0].arguments == turn.action.calls[0].arguments
            session.observe(turn.observations)


def _first(task):
    from envs.types import Observation

    return Observation(task.instruction)


def test_it_never_tests_the_same_code_twice_and_recovers_from_refused_edits() -> None:
    refused, policy = 0, TeacherPolicy(Habits(slips=0.5, tests=0.9, gives_up=0.0))
    for seed in range(60):
        taskset = MemoryTaskSet.of(draw_repository(seed, "train"), f"states {seed}", "train")
        env, task = MemoryEnv(taskset), taskset.tasks[0]
        first, _ = env.reset(options={"task": task.id})
        session, states, failed = policy.start(task, env.tools, first, seed=seed), [_files(env)], False
        over = False
        while not over:
            action = session.act(deadline=float("inf"))
            assert not isinstance(action, StopReason)
            (call,) = action.calls
            observation, _, terminated, truncated, _ = env.step(call)
            over = terminated or truncated
            if failed:  # the teacher looks again, or knows better at once
                assert call.name in ("edit", "view") and not observation.is_error
            failed = observation.is_error
            refused += failed
            if call.name == "test":
                assert _files(env) not in states
                states.append(_files(env))
            if not over:
                session.observe([observation])
    assert refused > 20


def _files(env: MemoryEnv) -> dict[str, bytes]:
    assert env._at is not None
    return dict(env._at.sandbox.files)  # pyright: ignore[reportAttributeAccessIssue]


def test_a_fork_goes_on_from_the_same_place() -> None:
    taskset = MemoryTaskSet.of(draw_repository(3, "train"), "fork", "train")
    env, task = MemoryEnv(taskset), taskset.tasks[0]
    first, _ = env.reset(options={"task": task.id})
    session = TeacherPolicy().start(task, env.tools, first, seed=4)
    for _ in range(2):
        action = session.act(deadline=float("inf"))
        assert not isinstance(action, StopReason)
        session.observe([env.step(action.calls[0])[0]])
    assert session.fork(seed=9).act(deadline=float("inf")) == session.act(deadline=float("inf"))


@pytest.fixture
def pool() -> Iterator[Backend]:
    """Sandboxes that wait ready: there are many episodes."""
    try:
        backend = connect("bubblewrap")
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    yield backend
    backend.close()


@pytest.mark.bubblewrap
@pytest.mark.slow
def test_observations_in_memory_are_those_of_real_sandboxes(pool: Backend, tmp_path: Path) -> None:
    """Byte for byte, and with the same verdict: lessons are played in memory only because of this."""
    out = tmp_path / "set"
    register_practice(RegisterSettings(out=out, limit=16, heldout=0.25, backend=pool), seed=5)
    stored = load_taskset(out)
    compared = 0
    with CodingEnv([stored], backend=pool) as env:
        for split in ("train", "heldout"):
            for number in range(4):
                name = f"practice-{split[0]}{number:04d}"
                memory = MemoryTaskSet.of(draw_repository(f"5-{number}", split), name, split)
                for task in (task for task in memory.tasks if task.id in stored.by_id):
                    for drill in (False, True):
                        policy = TeacherPolicy(Habits(tests=0.8, slips=0.2), drill=drill)
                        here = run_episode(MemoryEnv(memory), policy, task=task, seed=number)
                        there = run_episode(env, policy, task=stored.task(task.id), seed=number)
                        assert [t.observations for t in here.turns] == [t.observations for t in there.turns]
                        assert here.reward == there.reward
                        compared += 1
    assert compared > 15
