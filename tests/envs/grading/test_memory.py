"""Equal submissions are graded once, and only where the second grading could not come to another verdict."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import Any

import pytest

from envs.coding import CodingEnv
from envs.grading.grade import grade
from envs.grading.memory import VerdictMemory, content_key
from envs.grading.submission import Submission, admit, submission_of
from envs.parallel import StoppableBackend
from envs.redteam.program import source
from envs.tasksets.taskset import TaskSet
from envs.tasksets.trees import TreeFile
from envs.types import Task, ToolCall, Verdict
from sandboxes import Backend
from sandboxes.base import Content, Sandbox, SandboxError, SandboxSpec, TreeChanges
from sandboxes.fake import FakeBackend

CODE = "calculator/__init__.py"
REST = b"\n\ndef subtract(a, b):\n    return a - b\n"
EQUAL_TO_ALL = b"class Any:\n    __eq__ = lambda self, other: True\ndef add(a, b): return Any()\n"

SUBMISSIONS: dict[str, dict[str, Any]] = {
    "the fix": {"written": {CODE: b"def add(a, b):\n    return a + b\n" + REST}},
    "nothing": {},
    "a wrong fix": {"written": {CODE: b"def add(a, b):\n    return a * b\n" + REST}},
    "no syntax": {"written": {CODE: b"def add(a, b:\n"}},
    "equal to all": {"written": {CODE: EQUAL_TO_ALL + REST}},
    "no test runs": {"written": {CODE: source("framework/no_run.py").encode() + REST}},
    "a configured test run": {"written": {"conftest.py": b"import os\n"}},
    "own tests": {"written": {"tests/test_own.py": b"def test_x(): pass\n"}},
}
REMEMBERED = {"the fix", "nothing", "a wrong fix", "no syntax", "own tests", "a configured test run"}


class CountingBackend(StoppableBackend):
    """A real backend that counts the sandboxes it opened, and can refuse the next."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend)
        self.opened = 0
        self.before: Callable[[], None] = lambda: None

    def open(self, spec: SandboxSpec, *, timeout_s: float, content: Content | None = None) -> Sandbox:
        self.before()
        self.opened += 1
        return super().open(spec, timeout_s=timeout_s, content=content)


@pytest.fixture
def backend(pool: Backend) -> CountingBackend:
    return CountingBackend(pool)


@pytest.fixture
def task(calculator: TaskSet) -> Task:
    return calculator.tasks[0]


def submission(name: str, calculator: TaskSet) -> Submission:
    return admit(TreeChanges(**SUBMISSIONS[name]), calculator, calculator.tasks[0])


def never(_: int) -> int:
    return 1


def facts(verdict: Verdict) -> dict[str, Any]:
    """Every field but time, the mark of memory, and the log: times and random names of tests stand in it."""
    return {
        name: value
        for name, value in asdict(verdict).items()
        if name not in ("duration_s", "remembered", "log")
    }


@pytest.mark.bubblewrap
@pytest.mark.parametrize("name", SUBMISSIONS)
def test_memory_changes_no_verdict(
    name: str, calculator: TaskSet, task: Task, backend: CountingBackend
) -> None:
    memory = VerdictMemory(draw=never)
    alone = grade(submission(name, calculator), calculator, task, backend)
    first = memory.grade(submission(name, calculator), calculator, task, backend)
    before = backend.opened
    second = memory.grade(submission(name, calculator), calculator, task, backend)
    assert facts(alone) == facts(first) == facts(second)
    assert not first.remembered
    assert second.remembered == (name in REMEMBERED) == (backend.opened == before)
    if second.remembered:
        assert asdict(second) == asdict(first) | {"duration_s": second.duration_s, "remembered": True}
        assert second.duration_s < first.duration_s


@pytest.mark.bubblewrap
def test_an_episode_says_that_its_verdict_was_remembered(calculator: TaskSet, backend: Backend) -> None:
    memory = VerdictMemory(draw=never)
    seen: list[Verdict] = []
    for given in (memory, memory, None):
        with CodingEnv([calculator], backend=backend, verdict_memory=given) as env:
            env.reset(seed=0)
            _, reward, _, _, info = env.step(ToolCall("1", "submit", {}))
            assert reward == 0.0
            seen.append(info["verdict"])
    assert [verdict.remembered for verdict in seen] == [False, True, False]


@pytest.mark.bubblewrap
def test_equal_submissions_at_the_same_time_are_graded_once(
    calculator: TaskSet, task: Task, backend: CountingBackend
) -> None:
    grade(submission("the fix", calculator), calculator, task, backend)
    one_grading, backend.opened = backend.opened, 0
    arrived = threading.Barrier(4)

    def ask(memory: VerdictMemory) -> Verdict:
        arrived.wait(20)
        return memory.grade(submission("the fix", calculator), calculator, task, backend)

    with ThreadPoolExecutor(4) as threads:
        verdicts = list(threads.map(ask, [VerdictMemory(draw=never)] * 4))
    assert sorted(verdict.remembered for verdict in verdicts) == [False, True, True, True]
    assert all(verdict.resolved for verdict in verdicts)
    assert backend.opened == one_grading


@pytest.mark.bubblewrap
def test_a_grading_that_fails_is_left_to_the_next_in_line(
    calculator: TaskSet, task: Task, backend: CountingBackend
) -> None:
    memory, failures = VerdictMemory(draw=never), iter([SandboxError("the engine is away")])

    def refuse() -> None:
        for error in failures:
            raise error

    backend.before = refuse

    def ask(_: int) -> Verdict | None:
        try:
            return memory.grade(submission("nothing", calculator), calculator, task, backend)
        except SandboxError:
            return None

    with ThreadPoolExecutor(3) as threads:
        verdicts = list(threads.map(ask, range(3)))
    assert sum(verdict is None for verdict in verdicts) == 1
    assert sorted(verdict.remembered for verdict in verdicts if verdict) == [False, True]


@pytest.mark.bubblewrap
@pytest.mark.slow
def test_a_grading_that_ran_out_of_time_is_not_remembered(
    calculator: TaskSet, task: Task, backend: CountingBackend
) -> None:
    slow = replace(task, limits=replace(task.limits, test_s=1.5))
    sleeping = TreeFile(b"import time\ndef add(a, b):\n    time.sleep(60)\n" + REST)
    given = submission_of({**calculator.base_tree(slow), CODE: sleeping}, calculator, slow)
    memory = VerdictMemory(draw=never)
    for _ in range(2):
        verdict = memory.grade(given, calculator, slow, backend)
        assert not verdict.resolved and not verdict.remembered


@pytest.mark.bubblewrap
def test_a_test_that_was_flaky_at_registration_is_run_every_time(
    calculator: TaskSet, task: Task, backend: CountingBackend
) -> None:
    class Flaky(TaskSet):
        def flaky(self, task: Task) -> tuple[str, ...]:
            return task.fail_to_pass

    flaky = Flaky(**{name: getattr(calculator, name) for name in calculator.__dataclass_fields__})
    flaky = replace(flaky, digest="another set")
    memory = VerdictMemory(draw=never)
    verdicts = [memory.grade(submission("nothing", calculator), flaky, task, backend) for _ in range(2)]
    assert not any(verdict.remembered for verdict in verdicts)


@pytest.mark.bubblewrap
@pytest.mark.slow
def test_a_verdict_that_differs_when_graded_again_is_forgotten_for_good(
    calculator: TaskSet, task: Task, backend: CountingBackend
) -> None:
    draws = iter([1, 0, 0, 1])
    memory, turns_right = VerdictMemory(draw=lambda _: next(draws)), time.time() + 6
    code = f"import time\ndef add(a, b):\n    return a + b if time.time() > {turns_right} else 0\n"
    given = admit(TreeChanges(written={CODE: code.encode() + REST}), calculator, task)

    def ask() -> tuple[bool, bool]:
        verdict = memory.grade(given, calculator, task, backend)
        return verdict.resolved, verdict.remembered

    assert ask() == (False, False)
    assert ask() == (False, True)
    assert ask() == (False, False), "graded again, and equal"
    time.sleep(turns_right - time.time())
    assert ask() == (True, False), "graded again, and different"
    assert [ask(), ask()] == [(True, False)] * 2
    assert next(draws) == 1, "nothing is drawn for a submission that is graded every time"


@pytest.mark.bubblewrap
def test_the_unchanged_tree_is_proven_by_registration_and_not_graded_again(
    calculator: TaskSet, task: Task, backend: CountingBackend
) -> None:
    memory = VerdictMemory(recheck=1)
    verdicts = [
        memory.grade(submission(name, calculator), calculator, task, backend)
        for name in ("nothing", "own tests", "a wrong fix", "a wrong fix")
    ]
    assert [verdict.remembered for verdict in verdicts] == [False, True, False, False]


@pytest.mark.bubblewrap
def test_the_verdict_used_longest_ago_is_forgotten_first(
    calculator: TaskSet, task: Task, backend: CountingBackend
) -> None:
    memory = VerdictMemory(size=2, draw=never)
    asked = ("nothing", "a wrong fix", "nothing", "no syntax", "nothing", "a wrong fix")
    verdicts = [memory.grade(submission(name, calculator), calculator, task, backend) for name in asked]
    assert [verdict.remembered for verdict in verdicts] == [False, False, True, False, True, False]
    assert len(memory) == 2


def test_only_equal_content_of_the_same_task_shares_a_verdict(calculator: TaskSet, task: Task) -> None:
    base, backend = calculator.base_tree(task), FakeBackend()
    patch = submission("the fix", calculator)
    tree = patch.tree
    runnable = replace(patch, tree={**tree, CODE: replace(tree[CODE], executable=True)})
    binary = [replace(patch, tree={**tree, "data.bin": TreeFile(data)}) for data in (b"\0", b"\1")]
    removed = replace(patch, tree={name: entry for name, entry in tree.items() if name != "README.md"})
    keys = [
        content_key(given, calculator, task, backend)
        for given in (patch, runnable, *binary, removed, replace(patch, patch=""), replace(patch, tree=base))
    ]
    keys.append(content_key(patch, calculator, replace(task, id="calculator-0002"), backend))
    keys.append(content_key(patch, replace(calculator, digest="another set"), task, backend))
    assert len(set(keys)) == len(keys)
    assert content_key(submission("the fix", calculator), calculator, task, backend) == keys[0]


def test_a_sandbox_that_died_leaves_no_verdict_behind(calculator: TaskSet, task: Task) -> None:
    memory, backend = VerdictMemory(draw=never), FakeBackend()
    verdicts = [memory.grade(submission("nothing", calculator), calculator, task, backend) for _ in range(2)]
    assert not any(verdict.remembered for verdict in verdicts)
