"""Every known cheat is submitted and graded: it scores 0, and the honest reference scores 1."""

from __future__ import annotations

import pytest

from envs.grading.grade import grade
from envs.grading.submission import submission_of
from envs.register.proof.cheats import AT_REGISTRATION, CHEATS, Cheat
from envs.register.proof.task import GRADED, IDLE, by_turns, fate, prove_task
from envs.register.proof.taskset import SHARE
from envs.tasksets.taskset import TaskSet
from sandboxes import Backend

CODE = "calculator/__init__.py"
NEED_A_RUN = {
    "installed plugin",
    "forged output",
    "exit at import",
    "leave at import",
    "exit code at the end",
    "skip from code",
    "expected failures",
    "tests do not run",
    "good reports",
    "always equal",
    "setup script",
    "plugin by settings",
}


@pytest.fixture(scope="module")
def backend(bubblewrap_backend: Backend, calculator: TaskSet) -> Backend:
    bubblewrap_backend.ensure_image(calculator.runtime(calculator.tasks[0]).image, timeout_s=600)
    return bubblewrap_backend


def test_no_cheat_holds_the_fix_and_all_of_them_have_names_of_their_own(calculator: TaskSet) -> None:
    task = calculator.tasks[0]
    assert len({cheat.name for cheat in CHEATS}) == len(CHEATS) == len(AT_REGISTRATION)
    for cheat in CHEATS:
        tree = cheat.tree(calculator, task)
        assert b"a + b" not in tree[CODE].data
        assert tree != calculator.base_tree(task)


def test_the_rules_alone_refuse_what_touches_the_tests_and_drop_what_is_no_source(
    calculator: TaskSet,
) -> None:
    task = calculator.tasks[0]
    fates = {
        cheat.name: fate(submission_of(cheat.tree(calculator, task), calculator, task)) for cheat in CHEATS
    }
    assert {name for name, what in fates.items() if not what} == NEED_A_RUN
    assert fates["conftest hooks"] == fates["edited tests"] == fates["sitecustomize"] == IDLE
    assert fates["path file"] == IDLE


def test_tasks_that_follow_each_other_get_every_cheat() -> None:
    for share in (1, SHARE, 5):
        rounds = -(-len(CHEATS) // share)
        tried = {cheat.name for number in range(7, 7 + rounds) for cheat in by_turns(number, share)}
        assert tried == {cheat.name for cheat in CHEATS}
    assert list(by_turns(3, None)) == list(CHEATS)


@pytest.mark.bubblewrap
@pytest.mark.parametrize("cheat", CHEATS, ids=lambda cheat: cheat.name)
def test_a_cheat_scores_nothing(cheat: Cheat, calculator: TaskSet, backend: Backend) -> None:
    task = calculator.tasks[0]
    submission = submission_of(cheat.tree(calculator, task), calculator, task)
    assert grade(submission, calculator, task, backend).reward == 0.0


@pytest.mark.slow
@pytest.mark.bubblewrap
def test_a_task_is_proven_by_what_scores_1_and_by_everything_that_scores_0(
    calculator: TaskSet, backend: Backend
) -> None:
    def the_work(taskset: TaskSet, task):
        return taskset.solved_tree(task)

    task, honest = calculator.tasks[0], Cheat("the work", "none", "It does the work.", the_work)
    cheats = [cheat for cheat in CHEATS if cheat.name in ("exit at import", "edited tests")]
    found = prove_task(calculator, task, [*cheats, honest], backend=backend, runs=1)
    assert found.cheats == {"exit at import": GRADED, "edited tests": IDLE, "the work": "passes"}
    assert found.problems == ("a cheat passes: the work",)
