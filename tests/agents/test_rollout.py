"""The loop: how episodes end, what is recorded, and what is never scored."""

import math
import time

import pytest

from agents.policies.scripted import SUBMIT, ScriptedPolicy
from agents.rollout import Episode, run_branches, run_episode
from agents.runs.store import TrajectoryStore
from agents.types import Action, Completion, PolicyError, VersionSpan
from envs.types import Limits, Observation, StopReason, ToolCall

EDIT = ToolCall("e", "edit", {"old": "bad", "new": "good"})
VIEW = ToolCall("v", "view", {"path": "a.py"})


class Playing:
    """A policy that plays prepared actions, which may be errors, stop reasons or exceptions."""

    name = "playing"

    def __init__(self, *actions, wait_s=0.0):
        self.actions, self.wait_s, self.seen = list(actions), wait_s, []

    def start(self, task, tools, first, *, seed):
        self.seen.append((first,))
        return self

    def act(self, *, deadline):
        time.sleep(self.wait_s)
        action = self.actions.pop(0)
        if isinstance(action, Exception):
            raise action
        return action

    def observe(self, observations):
        self.seen.append(tuple(observations))

    def close(self):
        pass


WRONG = Action((), error="That was no call.")


def test_an_episode_is_recorded_turn_by_turn(make_env, make_task):
    task = make_task()
    policy = Playing(Action((EDIT,)), Action((SUBMIT,)), wait_s=0.02)
    env = make_env([task], slow_s=0.02)
    trajectory = run_episode(env, policy, task=task, seed=7, group="g")
    assert (trajectory.task_id, trajectory.task_hash, trajectory.seed) == (task.id, task.hash, 7)
    assert (trajectory.group, trajectory.policy, trajectory.error) == ("g", "playing", "")
    assert (trajectory.stop, trajectory.reward, trajectory.patch) == (StopReason.SUBMITTED, 1.0, "good\n")
    assert trajectory.verdict is not None and trajectory.verdict.passed == ("t",)
    assert [turn.observations[0].text for turn in trajectory.turns] == ["good\n", "over"]
    assert all(turn.generated_s >= 0.02 and turn.acted_s >= 0.02 for turn in trajectory.turns)
    assert trajectory.duration_s >= 0.08
    assert policy.seen == [(Observation(task.instruction),), (Observation("good\n", call_id="e"),)]


@pytest.mark.parametrize(
    "action",
    [
        *(
            Action((VIEW,), completion=Completion((1, 2), (-0.5, value), (VersionSpan(0, 0, 2),)))
            for value in (math.nan, -math.inf, math.inf)
        ),
        Action((VIEW,), text="ok \ud83d"),
        Action((ToolCall("v", "view", {"path": "\ud83d.py"}),)),
    ],
)
def test_what_could_not_be_read_back_leaves_the_episode_unscored_and_says_why(
    make_env, make_task, tmp_path, action
):
    task = make_task()
    trajectory = run_episode(make_env([task]), Playing(Action((VIEW,)), action), task=task, seed=0)
    assert (trajectory.stop, trajectory.reward, len(trajectory.turns)) == (StopReason.INFRA, None, 1)
    assert "log-probability" in trajectory.error or "cannot be stored" in trajectory.error
    with TrajectoryStore(tmp_path) as store:
        store.append(trajectory)
        assert list(store.read()) == [trajectory]


def test_several_calls_of_one_action_are_made_in_order_until_the_end(make_env, make_task):
    task = make_task()
    trajectory = run_episode(make_env([task]), Playing(Action((EDIT, VIEW, SUBMIT, VIEW))), task=task, seed=0)
    (turn,) = trajectory.turns
    assert [seen.text for seen in turn.observations] == ["good\n", "good\n", "over"]
    assert trajectory.reward == 1.0


def test_a_format_error_is_answered_with_what_was_wrong_and_touches_nothing(make_env, make_task):
    task, env = make_task(), make_env([make_task()])
    policy = Playing(WRONG, WRONG, Action((SUBMIT,)))
    trajectory = run_episode(env, policy, task=task, seed=0)
    correction = Observation("That was no call.", is_error=True, call_id=None)
    assert policy.seen[1:] == [(correction,), (correction,)]
    assert [turn.observations for turn in trajectory.turns[:2]] == [(correction,)] * 2
    assert env.calls == 1
    assert trajectory.stop is StopReason.SUBMITTED


def test_format_errors_in_a_row_end_the_episode_which_is_graded(make_env, make_task):
    task, env = make_task(), make_env([make_task()])
    policy = Playing(Action((EDIT,)), WRONG, WRONG, WRONG)
    trajectory = run_episode(env, policy, task=task, seed=0)
    assert (trajectory.stop, trajectory.reward) == (StopReason.FORMAT, 1.0)
    assert env.finished == [StopReason.FORMAT]
    assert len(trajectory.turns) == 4


def test_format_errors_that_are_not_in_a_row_do_not_end_the_episode(make_env, make_task):
    task = make_task()
    policy = Playing(WRONG, WRONG, Action((VIEW,)), WRONG, WRONG, Action((SUBMIT,)))
    assert run_episode(make_env([task]), policy, task=task, seed=0).stop is StopReason.SUBMITTED


def test_a_policy_that_cannot_go_on_is_graded_for_what_it_did(make_env, make_task):
    task, env = make_task(), make_env([make_task()])
    policy = Playing(Action((EDIT,)), StopReason.MAX_TOKENS)
    trajectory = run_episode(env, policy, task=task, seed=0)
    assert (trajectory.stop, trajectory.reward) == (StopReason.MAX_TOKENS, 1.0)
    assert env.finished == [StopReason.MAX_TOKENS]


def test_time_ends_the_episode_which_is_graded(make_env, make_task):
    task = make_task(limits=Limits(episode_s=0.05))
    env = make_env([task])
    policy = Playing(*[Action((VIEW,))] * 50, wait_s=0.03)
    trajectory = run_episode(env, policy, task=task, seed=0)
    assert (trajectory.stop, trajectory.reward) == (StopReason.TIME, 0.0)
    assert 1 <= len(trajectory.turns) <= 3


def test_the_environments_own_limit_ends_the_episode(make_env, make_task):
    task = make_task(limits=Limits(max_turns=2))
    trajectory = run_episode(make_env([task]), ScriptedPolicy([VIEW] * 9), task=task, seed=0)
    assert (trajectory.stop, trajectory.reward) == (StopReason.MAX_TURNS, 0.0)
    assert len(trajectory.turns) == 2


@pytest.mark.parametrize("where", ["reset", "view", "finish", "submit"])
def test_a_failing_sandbox_leaves_the_episode_unscored(make_env, make_task, where):
    task = make_task()
    trajectory = run_episode(
        make_env([task], fail_on=(where,)), Playing(Action((VIEW,)), Action((SUBMIT,))), task=task, seed=0
    )
    assert (trajectory.stop, trajectory.reward, trajectory.verdict) == (StopReason.INFRA, None, None)
    assert trajectory.error == f"SandboxLost: the sandbox is gone ({where})"


def test_a_failing_sandbox_at_a_limit_of_the_loop_leaves_the_episode_unscored(make_env, make_task):
    task = make_task()
    policy = Playing(StopReason.MAX_TOKENS)
    trajectory = run_episode(make_env([task], fail_on=("finish",)), policy, task=task, seed=0)
    assert (trajectory.stop, trajectory.reward) == (StopReason.INFRA, None)


def test_a_failing_policy_leaves_the_episode_unscored_and_keeps_its_turns(make_env, make_task):
    task = make_task()
    policy = Playing(Action((VIEW,)), PolicyError("the engine is gone"))
    trajectory = run_episode(make_env([task]), policy, task=task, seed=0)
    assert (trajectory.stop, trajectory.reward) == (StopReason.INFRA, None)
    assert trajectory.error == "PolicyError: the engine is gone"
    assert len(trajectory.turns) == 1


def test_a_mistake_in_the_program_is_not_taken_for_a_failing_sandbox(make_env, make_task):
    task = make_task()
    with pytest.raises(ZeroDivisionError):
        run_episode(make_env([task]), Playing(ZeroDivisionError()), task=task, seed=0)


def test_an_episode_that_ends_before_it_branches_is_played_once(make_env, make_task):
    task = make_task()
    policy = ScriptedPolicy([EDIT])
    (only,) = run_branches(make_env([task]), policy, task=task, seed=0, after=9, seeds=[1, 2], group="g")
    assert only.stop is StopReason.SUBMITTED and only.reward == 1.0
    assert (only.branch_of, only.branch_after) == (None, 0)


def test_playing_can_pause_between_turns(make_env, make_task):
    task = make_task()
    policy = ScriptedPolicy([EDIT])
    episode = Episode(make_env([task]), policy, task=task, seed=0)
    assert episode.play(until=1) is None
    ended = episode.play()
    assert ended is not None and len(ended.turns) == 2 and ended.reward == 1.0
