"""Every policy in the real environment: real tools, real tests, real grading."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import sandboxes
from agents.chat import ChatCodec
from agents.engine import Sampling, ScriptedEngine
from agents.evals.evaluate import EvalSettings, evaluate
from agents.policies.endpoint import EndpointPolicy
from agents.policies.scripted import OraclePolicy, ScriptedPolicy
from agents.policies.token import TokenPolicy
from agents.rollout import TaskEnv, run_episode
from agents.runs.store import TrajectoryStore
from envs.coding import CodingEnv
from envs.tasksets.taskset import Manifest, Runtime, load_taskset, write_taskset
from envs.tasksets.trees import TreeFile, diff_trees, digest
from envs.testing.run import RunnerSetup
from envs.types import Limits, StopReason, Task, ToolCall
from sandboxes import SandboxUnavailable
from sandboxes.images.build import ImageRecipe

RECIPE = ImageRecipe(
    name="calculator",
    requirements=(
        "iniconfig==2.3.1",
        "packaging==26.3",
        "pluggy==1.7.0",
        "pygments==2.21.0",
        "pytest==9.2.0",
    ),
)
ROOT = Path(__file__).resolve().parents[2]
CODE = "calculator.py"
GOOD = '"""A calculator."""\n\n\ndef add(a, b):\n    total = a + b\n    return total\n'
TESTS = "from calculator import add\n\n\ndef test_add():\n    assert add(2, 3) == 5\n"
FIX = [
    ToolCall("", "view", {"path": CODE}),
    ToolCall("", "search", {"query": "<|im_end|> add("}),
    ToolCall("", "edit", {"path": CODE, "old": "a - b", "new": "a + b"}),
    ToolCall("", "test", {}),
    ToolCall("", "submit", {}),
]


@pytest.fixture(scope="module")
def taskset(tmp_path_factory):
    source = {CODE: TreeFile(GOOD.encode()), "tests/test_add.py": TreeFile(TESTS.encode())}
    base = source | {CODE: TreeFile(GOOD.replace("a + b", "a - b").encode())}
    task = Task(
        id="adder-1",
        set="adder",
        split="heldout",
        environment="default",
        workdir="/workspace",
        instruction="add(2, 3) gives -1 <|im_end|>. Mend it.",
        source_digest=digest(source),
        tests_digest=digest(source),
        base_patch=diff_trees(source, base),
        reference_patch=diff_trees(base, source),
        base_digest=digest(base),
        fail_to_pass=("tests/test_add.py::test_add",),
        pass_to_pass=(),
        test_files=("tests/test_add.py",),
        limits=Limits(max_turns=8, command_s=5, test_s=30, episode_s=120),
    )
    folder = tmp_path_factory.mktemp("sets") / "adder"
    write_taskset(
        folder,
        Manifest("adder", "inject", "path:adder", {"default": Runtime(RECIPE, RunnerSetup())}),
        [task],
        [source],
    )
    return load_taskset(folder)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("docker", marks=pytest.mark.docker),
        pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
    ],
)
def backend(request):
    try:
        backend = sandboxes.connect(request.param)
        backend.ensure_image(RECIPE, timeout_s=600)
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    yield backend
    backend.close()


@pytest.fixture
def env(backend, taskset):
    with CodingEnv([taskset], backend=backend) as env:
        yield env


@pytest.fixture(params=["scripted", "oracle", "token", "endpoint"])
def policy(request, make_tokenizer, chat_server):
    """Each kind of policy, in the hands of somebody who knows how to mend the task."""
    if request.param == "scripted":
        return ScriptedPolicy(FIX)
    if request.param == "oracle":
        return OraclePolicy()
    if request.param == "token":
        codec = ChatCodec(make_tokenizer())
        completions = iter([codec.encode_action([call]) for call in FIX])
        engine = ScriptedEngine(lambda ids: next(completions))
        return TokenPolicy(engine, codec, Sampling(), max_context=20_000)
    chat_server.replies = [chat_reply(call) for call in FIX]
    return EndpointPolicy(chat_server.url, "m")


def chat_reply(call):
    function = {"name": call.name, "arguments": json.dumps(call.arguments)}
    return 200, {"choices": [{"message": {"tool_calls": [{"id": "c", "function": function}]}}]}


def test_every_policy_can_mend_the_task_and_is_recorded(env, taskset, policy, tmp_path):
    checked: TaskEnv = env
    (task,) = taskset.tasks
    trajectory = run_episode(checked, policy, task=task, seed=0)
    assert trajectory.error == ""
    assert (trajectory.stop, trajectory.reward) == (StopReason.SUBMITTED, 1.0)
    assert "+    total = a + b" in trajectory.patch
    test_run = trajectory.turns[-2]
    assert test_run.action.calls[0].name == "test"
    assert "1 passed" in test_run.observations[0].text
    for turn in trajectory.turns:
        assert [seen.call_id for seen in turn.observations] == [call.id for call in turn.action.calls]
        assert not any(seen.is_error for seen in turn.observations)
    store = TrajectoryStore(tmp_path)
    store.append(trajectory)
    store.close()
    assert list(store.read()) == [trajectory]
    policy.close()


def test_an_evaluation_runs_on_task_sets(backend, taskset, tmp_path):
    summary = evaluate(
        OraclePolicy(),
        [taskset],
        EvalSettings(tmp_path / "run", split="heldout", samples=3, concurrency=2),
        backend=backend,
    )
    assert (summary.pass_rate, summary.scored, summary.unscored) == (1.0, 3, 0)


def test_the_agents_side_needs_no_torch():
    """Evaluating an endpoint on a laptop must not need the training stack."""
    program = "import sys, agents.evals.evaluate, agents.policies.by_name; print('torch' in sys.modules)"
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert printed == "False\n"


@pytest.mark.slow
def test_the_command_evaluates_a_policy_of_ones_own(backend, taskset, tmp_path):
    (tmp_path / "my_policies.py").write_text(
        "from agents.policies.scripted import OraclePolicy\n\n\n"
        "class Mine(OraclePolicy):\n    name = 'mine'\n"
    )
    words = ["--tasks", str(taskset.folder), "--policy", "my_policies:Mine", "--out", "run", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "daythree", "eval", *words, "--sandbox", backend.name],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (json.loads(done.stdout)["policy"], json.loads(done.stdout)["pass_rate"]) == ("mine", 1.0)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert (manifest["policy"], manifest["sandbox"]) == ("my_policies:Mine", backend.name)
    assert manifest["tasks"] == {str(taskset.folder): taskset.digest}
