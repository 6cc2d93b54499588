"""Episodes that branch in the middle: one beginning, several ends, nothing shared after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from agents.policies.scripted import ScriptedPolicy
from agents.rollout import run_branches
from agents.types import Action
from envs.coding import CodingEnv
from envs.tasksets.taskset import TaskSet
from envs.types import Observation, StopReason, Task, ToolCall

REAL = [
    pytest.param("docker", marks=pytest.mark.docker),
    pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
]
LEAVE = ToolCall("", "shell", {"command": "echo a note > /tmp/note; echo 'x = 1' > more.py"})
FIND = ToolCall("", "shell", {"command": "cat /tmp/note more.py; git status --short"})
MEND = ToolCall(
    "", "edit", {"path": "calculator/__init__.py", "old": "a - b\n\n\ndef s", "new": "a + b\n\n\ndef s"}
)
SUBMIT = ToolCall("", "submit", {})


class ChoosingSession:
    """Looks twice, then mends or gives up as its seed says, and remembers all it has seen."""

    def __init__(self, seed: int, seen: Sequence[Observation]) -> None:
        self.seed, self.seen = seed, list(seen)

    def act(self, *, deadline: float) -> Action | StopReason:
        script = [LEAVE, FIND, *([MEND] if self.seed % 2 else []), SUBMIT]
        return Action(
            (script[len(self.seen) - 1],), text=" ".join(observation.text for observation in self.seen)
        )

    def observe(self, observations: Sequence[Observation]) -> None:
        self.seen += observations

    def fork(self, *, seed: int) -> ChoosingSession:
        return ChoosingSession(seed, self.seen)


class ChoosingPolicy(ScriptedPolicy):
    def __init__(self) -> None:
        super().__init__([], name="choosing")

    def start(self, task: Task, tools: Any, first: Observation, *, seed: int) -> Any:
        return ChoosingSession(seed, [first])


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_branches_share_their_beginning_and_nothing_after_it(
    request: pytest.FixtureRequest, name: str, calculator: TaskSet
) -> None:
    backend = request.getfixturevalue(f"{name}_backend")
    task = calculator.tasks[0]
    with CodingEnv([calculator], backend=backend) as env:
        played = run_branches(
            env, ChoosingPolicy(), task=task, seed=0, after=1, seeds=[1, 2, 3, 1], group="g"
        )
    assert [episode.reward for episode in played] == [1.0, 0.0, 1.0, 1.0]
    assert [episode.seed for episode in played] == [1, 2, 3, 1]
    assert len({id(episode.turns[0]) for episode in played}) == 1, "the beginning was played once"
    assert {episode.branch_after for episode in played} == {1}
    (parent,) = {episode.branch_of for episode in played}
    assert parent and parent not in {episode.id for episode in played}
    assert len({episode.id for episode in played}) == 4
    for episode in played:
        (found,) = episode.turns[1].observations
        assert "a note" in found.text and "more.py" in found.text, "files of /tmp and the tree came along"
    assert played[0].patch == played[3].patch and played[0].turns[1:2] != [], "the same seed, the same end"
    assert [t.observations for t in played[0].turns] == [t.observations for t in played[3].turns]


@pytest.mark.parametrize("name", REAL)
def test_an_environment_goes_on_after_it_was_forked(
    request: pytest.FixtureRequest, name: str, calculator: TaskSet
) -> None:
    with CodingEnv([calculator], backend=request.getfixturevalue(f"{name}_backend")) as env:
        env.reset(seed=3, options={"task": calculator.tasks[0].id})
        env.step(LEAVE)
        (fork,) = env.fork(1)
        with fork:
            assert fork.task == env.task and fork.render() == env.render()
            assert fork.np_random.integers(1 << 30) == env.np_random.integers(1 << 30)
            fork.step(ToolCall("", "shell", {"command": "rm more.py"}))
            assert "x = 1" in env.step(FIND)[0].text, "what a fork does stays in it"
            env.step(MEND)
            assert "a - b" in fork.step(ToolCall("", "view", {"path": "calculator/__init__.py"}))[0].text
            turns = [branch.step(FIND)[4]["turns"] for branch in (env, fork)]
            assert turns == [4, 4], "both have counted the turn before the fork"
            assert env.step(SUBMIT)[1] == 1.0
            assert fork.step(SUBMIT)[1] == 0.0
