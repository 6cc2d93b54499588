"""`register practice` in real sandboxes, and the evaluation in memory that lessons rely on."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.policies.scripted import OraclePolicy
from agents.rollout import run_episode
from envs.coding import CodingEnv
from envs.register import RegisterError, RegisterSettings, register_practice
from envs.register.practice import practice
from envs.register.practice.memory import run_in_memory
from envs.tasksets.taskset import TaskSet, load_taskset, verify_lock
from envs.tasksets.trees import TreeFile, pack
from envs.testing.run import RunnerSetup, run_tests, template
from sandboxes import Backend
from sandboxes.base import Content, SandboxSpec

pytestmark = pytest.mark.bubblewrap


@pytest.fixture(scope="module")
def made(bubblewrap_backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> TaskSet:
    out = tmp_path_factory.mktemp("practice") / "set"
    report = register_practice(
        RegisterSettings(out=out, limit=16, heldout=0.25, backend=bubblewrap_backend), seed=3
    )
    assert (report.tasks, report.heldout) == (16, 4)
    return load_taskset(out)


@pytest.mark.slow
def test_the_set_is_whole_and_its_reference_solves_it(made: TaskSet, bubblewrap_backend: Backend) -> None:
    assert verify_lock(made) == []
    with CodingEnv([made], backend=bubblewrap_backend) as env:
        for task in made.tasks[::3]:
            assert run_episode(env, OraclePolicy(), task=task, seed=0).reward == 1.0


def test_a_task_that_is_not_what_was_foreseen_leaves_nothing_behind(
    bubblewrap_backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = practice.make_tasks

    def wrong(*arguments, **options):
        tasks = honest(*arguments, **options)
        tasks[0] = practice.PracticeTask(tasks[0].task, tasks[0].full, tasks[0].full)  # it has no bug
        return tasks

    monkeypatch.setattr(practice, "make_tasks", wrong)
    with pytest.raises(RegisterError, match=r"not what was foreseen: .* with the bug"):
        register_practice(RegisterSettings(out=tmp_path / "set", limit=8, backend=bubblewrap_backend))
    assert list(tmp_path.iterdir()) == []


def test_a_run_in_memory_gives_the_report_of_a_sandbox(bubblewrap_backend: Backend) -> None:
    """Passing, failing, an error inside the code, and one that passes through a caller."""
    files = {
        "shop/core.py": "def a_b(x, y):\n    return x // y\n\n\ndef c_d(x, y):\n    return a_b(x, y) + 1\n",
        "shop/__init__.py": "",
        "tests/test_core.py": "from shop.core import a_b, c_d\n\n\n"
        "def test_a_b():\n    assert a_b(4, 2) == 2\n    assert a_b(-9, 2) == 3\n\n\n"
        "def test_c_d():\n    assert c_d(1, 0) == 1\n\n\n"
        "def test_right():\n    assert a_b(4, 2) == 2\n\n\n"
        "def test_is():\n    assert a_b(4, 2) is True\n\n\n"
        "def test_division():\n    assert a_b(1, 0) == 1\n",
    }
    tree = {path: TreeFile(text.encode()) for path, text in files.items()}
    image = bubblewrap_backend.ensure_image(practice.IMAGE, timeout_s=600)
    spec = SandboxSpec(image=image, template=template(RunnerSetup()))
    sandbox = bubblewrap_backend.open(spec, timeout_s=60, content=Content("tree", lambda: pack(tree)))
    try:
        real = run_tests(sandbox, RunnerSetup(), ["tests/test_core.py"], timeout_s=60)
    finally:
        sandbox.close()
    here = run_in_memory(tree, ["tests/test_core.py"])
    assert set(real.outcomes.values()) == {"passed", "failed"}
    assert here.outcomes == real.outcomes
    assert list(here.outcomes) == list(real.outcomes)
    assert here.failures == real.failures
