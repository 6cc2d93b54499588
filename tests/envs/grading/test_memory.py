"""Remembered verdicts: the same as graded ones, once per content, and never of a run that was cut off."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from agents.policies.scripted import OraclePolicy, ScriptedPolicy
from agents.rollout import run_episode
from envs.coding import CodingEnv
from envs.grading.memory import VerdictMemory
from envs.grading.submission import Submission
from envs.tasksets.taskset import TaskSet
from envs.tasksets.trees import TreeFile
from envs.types import Task, ToolCall, Verdict
from sandboxes import Backend

TREE = {"a.py": TreeFile(b"x = 1\n")}
SUBMISSION = Submission(TREE, "patch")


class Grading:
    """Counts its calls."""

    def __init__(self, verdict: Verdict | Exception) -> None:
        self.verdict, self.calls = verdict, 0

    def __call__(self) -> Verdict:
        self.calls += 1
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return replace(self.verdict, duration_s=0.5)


@pytest.fixture
def task(calculator: TaskSet) -> Task:
    return calculator.tasks[0]


@pytest.mark.parametrize("verdict", [Verdict(True, passed=("t",)), Verdict(False, failed=("t",))])
def test_an_equal_submission_is_graded_once(task: Task, verdict: Verdict) -> None:
    memory, grading = VerdictMemory(), Grading(verdict)
    first, again = (memory.verdict(SUBMISSION, task, grading) for _ in range(2))
    assert (grading.calls, first.duration_s, again.duration_s) == (1, 0.5, 0.0)
    assert replace(first, duration_s=0.0) == again


@pytest.mark.parametrize(
    "other",
    [
        replace(SUBMISSION, tree={"a.py": TreeFile(b"x = 2\n")}),
        replace(SUBMISSION, tree={"a.py": TreeFile(b"x = 1\n", executable=True)}),
        replace(SUBMISSION, tampered=("conftest.py: changed",)),
        replace(SUBMISSION, patch="another"),
    ],
)
def test_whatever_grading_sees_makes_a_submission_another_one(task: Task, other: Submission) -> None:
    memory, grading = VerdictMemory(), Grading(Verdict(True, passed=("t",)))
    memory.verdict(SUBMISSION, task, grading)
    memory.verdict(other, task, grading)
    assert grading.calls == 2


def test_two_tasks_share_nothing(task: Task) -> None:
    memory, grading = VerdictMemory(), Grading(Verdict(True, passed=("t",)))
    memory.verdict(SUBMISSION, task, grading)
    memory.verdict(SUBMISSION, replace(task, instruction="another"), grading)
    assert grading.calls == 2


@pytest.mark.parametrize(
    "verdict",
    [Verdict(False, missing=("t",)), Verdict(False, tampered=("conftest.py: changed",)), OSError("lost")],
)
def test_what_was_cut_off_or_tampered_with_is_graded_anew(task: Task, verdict: Verdict | OSError) -> None:
    memory, grading = VerdictMemory(), Grading(verdict)
    for _ in range(2):
        if isinstance(verdict, OSError):
            with pytest.raises(OSError, match="lost"):
                memory.verdict(SUBMISSION, task, grading)
        else:
            assert memory.verdict(SUBMISSION, task, grading).duration_s == 0.5
    assert grading.calls == 2


def test_equal_submissions_at_the_same_time_wait_for_one_grading(task: Task) -> None:
    memory, begun, go_on = VerdictMemory(), threading.Event(), threading.Event()
    calls: list[int] = []

    def grading() -> Verdict:
        calls.append(1)
        begun.set()
        assert go_on.wait(20)
        return Verdict(True, passed=("t",), duration_s=1.0)

    found: list[Verdict] = []

    def ask(grade: Callable[[], Verdict]) -> None:
        found.append(memory.verdict(SUBMISSION, task, grade))

    threads = [threading.Thread(target=ask, args=(grading,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    assert begun.wait(20)
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert (len(calls), len(found)) == (1, 6)


def test_only_so_many_are_kept(task: Task) -> None:
    memory, grading = VerdictMemory(size=2), Grading(Verdict(True, passed=("t",)))
    for patch in ("a", "b", "c", "a"):
        memory.verdict(replace(SUBMISSION, patch=patch), task, grading)
    assert grading.calls == 4


EDIT_WRONG = ToolCall(
    "", "edit", {"path": "calculator/__init__.py", "old": "a - b", "new": "b - a", "line": 9}
)


@pytest.mark.bubblewrap
def test_real_verdicts_are_equal_field_by_field(calculator: TaskSet, bubblewrap_backend: Backend) -> None:
    """The reference, nothing, and a wrong change; the second episode of each is not graded."""
    memory = VerdictMemory()
    policies = (OraclePolicy(), ScriptedPolicy([]), ScriptedPolicy([EDIT_WRONG]))
    for policy in policies:
        verdicts = []
        for verdict_memory in (None, memory, memory):
            with CodingEnv([calculator], backend=bubblewrap_backend, verdicts=verdict_memory) as env:
                verdict = run_episode(env, policy, task=calculator.tasks[0], seed=0).verdict
                assert verdict is not None
                verdicts.append(verdict)
        graded, first, remembered = verdicts
        assert first.duration_s > 0.0 == remembered.duration_s
        plain = [replace(verdict, duration_s=0.0, log="") for verdict in verdicts]
        assert plain[0] == plain[1] == plain[2]
        assert graded.layers == first.layers == remembered.layers
