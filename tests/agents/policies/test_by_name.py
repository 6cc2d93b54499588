"""A policy of one's own is named by its module."""

import importlib

import pytest

from agents.policies.by_name import build_policy
from agents.policies.scripted import OraclePolicy, ScriptedPolicy
from agents.types import PolicyError

MODULE = """
from agents.policies.scripted import SUBMIT, OraclePolicy as Class, ScriptedPolicy

ready = ScriptedPolicy([SUBMIT], name="ready")
nothing = dict


def make():
    return ready
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module `own_policies` with a policy, a class, a function, and a class that is no policy."""
    (tmp_path / "own_policies.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("own_policies")


def test_an_own_policy_is_an_object_a_class_or_a_function(own):
    assert build_policy("own_policies:ready") is own.ready
    assert build_policy("own_policies:make") is own.ready
    assert isinstance(build_policy("own_policies:Class"), OraclePolicy)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("morse", "there is no policy 'morse': use oracle, scripted:FILE.jsonl"),
        ("own_policies:gone", "own_policies has no 'gone'"),
        ("no_such_module:make", "no module 'no_such_module'"),
        ("own_policies:nothing", "is no policy: it has no name and no start and no close"),
    ],
)
def test_a_name_that_makes_no_policy_is_refused_in_one_line(own, spec, reason):
    with pytest.raises(PolicyError) as caught:
        build_policy(spec)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_more_forms_join_those_that_are_known(own):
    policy = build_policy("vllm:model", {"vllm:MODEL_PATH": lambda model: ScriptedPolicy([], name=model)})
    assert policy.name == "model"
