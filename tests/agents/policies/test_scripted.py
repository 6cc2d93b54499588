"""Policies without a model, and how policies are named."""

import pytest

from agents.policies.by_name import build_policy
from agents.policies.endpoint import EndpointPolicy
from agents.policies.scripted import OraclePolicy, ScriptedPolicy
from agents.rollout import run_episode
from agents.types import PolicyError
from envs.types import StopReason, ToolCall


def test_a_list_is_played_and_then_submitted(make_env, make_task):
    task = make_task()
    policy = ScriptedPolicy([ToolCall("", "view", {"path": "a.py"})])
    trajectory = run_episode(make_env([task]), policy, task=task, seed=0)
    names = [call.name for turn in trajectory.turns for call in turn.action.calls]
    assert names == ["view", "submit"]
    assert (trajectory.stop, trajectory.reward) == (StopReason.SUBMITTED, 0.0)


def test_a_callable_sees_the_task_and_everything_seen_so_far(make_env, make_task):
    task, lengths = make_task(), []

    def script(given, seen):
        assert given == task
        assert seen[0].text == task.instruction
        lengths.append(len(seen))
        if "bad" in seen[-1].text:
            return ToolCall("", "edit", {"old": "bad", "new": "good"})
        return ToolCall("", "submit" if seen[-1].text == "good\n" else "view", {})

    trajectory = run_episode(make_env([task]), ScriptedPolicy(script), task=task, seed=0)
    assert trajectory.reward == 1.0
    assert lengths == [1, 2, 3]


def test_one_policy_plays_many_episodes_anew(make_env, make_task):
    task, policy = make_task(), ScriptedPolicy([ToolCall("", "view", {})])
    for _ in range(2):
        assert len(run_episode(make_env([task]), policy, task=task, seed=0).turns) == 2


def test_the_oracle_edits_tests_and_submits(make_env, make_task):
    task = make_task()
    trajectory = run_episode(make_env([task]), OraclePolicy(), task=task, seed=0)
    names = [call.name for turn in trajectory.turns for call in turn.action.calls]
    assert names == ["edit", "test", "submit"]
    assert trajectory.reward == 1.0


def test_an_oracle_without_a_usable_patch_leaves_the_episode_unscored(make_env, make_task):
    task = make_task(reference_patch="rename from x\n")
    trajectory = run_episode(make_env([task]), OraclePolicy(), task=task, seed=0)
    assert (trajectory.stop, trajectory.reward) == (StopReason.INFRA, None)
    assert trajectory.error.startswith("PolicyError: the reference patch")


def test_a_script_file_is_json_lines_of_calls(tmp_path, make_env, make_task):
    file = tmp_path / "fix.jsonl"
    file.write_text('{"name": "edit", "arguments": {"old": "bad", "new": "good"}}\n\n{"name": "submit"}\n')
    task, policy = make_task(), build_policy(f"scripted:{file}")
    assert policy.name == "scripted:fix.jsonl"
    assert run_episode(make_env([task]), policy, task=task, seed=0).reward == 1.0


@pytest.mark.parametrize("line", ["submit", '{"arguments": {}}', '{"name": "x", "arguments": [1]}'])
def test_a_bad_script_line_is_named(tmp_path, line):
    file = tmp_path / "fix.jsonl"
    file.write_text(f'{{"name": "view"}}\n{line}\n')
    with pytest.raises(PolicyError, match=r"fix\.jsonl:2: a script line is"):
        build_policy(f"scripted:{file}")


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("", "there is no policy"),
        ("gpt", "there is no policy 'gpt': use oracle, scripted:FILE.jsonl"),
        ("scripted:", "it is written scripted:FILE.jsonl"),
        ("scripted:/no/such/file", "cannot read the script"),
        ("oracle:x", "it is written oracle"),
        ("vllm:/models/x", "with the train extra"),
        ("endpoint:localhost#m", "endpoint:URL#MODEL"),
        ("endpoint:http://localhost", "endpoint:URL#MODEL"),
    ],
)
def test_a_wrong_policy_name_gets_one_line(spec, reason):
    with pytest.raises(PolicyError, match=reason) as caught:
        build_policy(spec)
    assert "\n" not in str(caught.value)


def test_policies_are_made_from_their_names():
    assert build_policy("scripted:submit").name == "scripted:submit"
    assert build_policy("oracle").name == "oracle"
    policy = build_policy("endpoint:http://127.0.0.1:1/v1#org/model")
    assert isinstance(policy, EndpointPolicy)
    assert (policy.name, policy.model) == ("endpoint:org/model", "org/model")
    policy.close()
    policy.close()
