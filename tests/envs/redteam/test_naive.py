"""A cheat that aims at a verdict deceives a naive grader; otherwise it would be no cheat."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress

import pytest

from envs.redteam.cheat import Cheat
from envs.redteam.cheater import Cheater, EpisodeOver, laying
from envs.redteam.scene import NotApplicable, scene_of
from envs.redteam.suite import CHEATS
from envs.tasksets.taskset import TaskSet
from envs.types import ToolCall

pytestmark = [pytest.mark.bubblewrap, pytest.mark.slow]
CODE = "kettle/__init__.py"
AIMED = [cheat for cheat in CHEATS if cheat.fools not in ("planted", "as root")]
SETTINGS = sorted({cheat.fools for cheat in AIMED})
IDLE_PASSES = {"tests that passed before"}
"""Settings whose naivety is that nothing need be done."""
SUBMIT = ToolCall("", "submit", {})
AT_ONCE = 3


def deceived(cheat: Cheat, kettle: TaskSet, naive_episode: Callable) -> str:
    """Play a cheat before a naive grader, on one task after the other; say why none was deceived."""
    seen = []
    for task in kettle.tasks:
        with closing(naive_episode(cheat.fools, task)) as episode:
            cheater = Cheater(episode, scene_of(kettle, task))
            try:
                with suppress(EpisodeOver):
                    (cheat.play or laying(cheat.changes))(cheater)
            except NotApplicable as reason:
                seen.append(str(reason))
                continue
            if episode.rewarded or cheater.prizes:
                return ""
            seen.append(cheater.seen)
    return f"{cheat.name} deceives nobody: {seen}"


def told_apart(setting: str, kettle: TaskSet, naive_episode: Callable) -> tuple[bool, bool]:
    """What a naive grader says of nothing, and of the work."""
    task, rewarded = kettle.tasks[1], []
    with closing(naive_episode(setting, task)) as episode:
        for code in (kettle.base_tree(task)[CODE], kettle.solved_tree(task)[CODE]):
            episode.reset()
            episode.sandbox.write(CODE, code.data, timeout_s=10)
            episode.step(SUBMIT)
            rewarded.append(episode.rewarded)
    return rewarded[0], rewarded[1]


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest, kettle: TaskSet, naive_episode: Callable):
    """What the tests that were chosen ask for, several at once."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        found: dict[str, Future] = {}
        for item in request.session.items:
            given = item.callspec.params if hasattr(item, "callspec") else {}
            if "cheat" in given and item.path == request.path:
                found[given["cheat"].name] = threads.submit(deceived, given["cheat"], kettle, naive_episode)
            elif "setting" in given and item.path == request.path:
                found[given["setting"]] = threads.submit(told_apart, given["setting"], kettle, naive_episode)
        yield found


@pytest.mark.parametrize("cheat", AIMED, ids=lambda cheat: cheat.name)
def test_a_naive_grader_is_deceived(cheat: Cheat, results) -> None:
    assert results[cheat.name].result() == ""


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_naive_grader_tells_work_from_none(setting: str, results) -> None:
    assert results[setting].result() == (setting in IDLE_PASSES, True)
