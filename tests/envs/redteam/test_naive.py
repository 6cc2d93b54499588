"""A cheat that aims at a verdict deceives a naive grader; otherwise it would be no cheat."""

from __future__ import annotations

import pytest

from envs.redteam.agent import Agent, EpisodeOver, laying
from envs.redteam.cheat import Cheat
from envs.redteam.scene import NotApplicable, scene_of
from envs.redteam.suite import CHEATS

ELSEWHERE = ("planted", "as root")
AIMED = [cheat for cheat in CHEATS if cheat.fools not in ELSEWHERE]
IDLE_PASSES = ("tests that passed before",)
"""Settings whose naivety is that nothing need be done."""


def played(cheat: Cheat, episode, scene) -> Agent:
    agent = Agent(episode, scene)
    try:
        (cheat.play or laying(cheat.changes))(agent)
    except EpisodeOver:
        pass
    return agent


@pytest.mark.bubblewrap
@pytest.mark.parametrize("cheat", AIMED, ids=lambda cheat: cheat.name)
def test_a_naive_grader_is_deceived(cheat: Cheat, kettle, naive_episode) -> None:
    seen = []
    for task in kettle.tasks:
        episode = naive_episode(cheat.fools, task)
        try:
            agent = played(cheat, episode, scene_of(kettle, task))
        except NotApplicable as reason:
            seen.append(str(reason))
            continue
        if episode.rewarded or agent.prizes:
            return
        seen.append(agent.said)
    pytest.fail(f"{cheat.name} deceives nobody: {seen}")


@pytest.mark.bubblewrap
@pytest.mark.parametrize("name", sorted({cheat.fools for cheat in AIMED}))
def test_a_naive_grader_tells_work_from_none(name: str, kettle, naive_episode) -> None:
    task = kettle.tasks[1]
    idle = naive_episode(name, task)
    idle.step(_submit())
    solved = naive_episode(name, task)
    for path in ("kettle/__init__.py",):
        solved.sandbox.write(path, kettle.solved_tree(task)[path].data, timeout_s=10)
    solved.step(_submit())
    assert (idle.rewarded, solved.rewarded) == (name in IDLE_PASSES, True)


def _submit():
    from envs.types import ToolCall

    return ToolCall("", "submit", {})
