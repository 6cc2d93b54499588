"""From what the policy left behind to a verdict: the only code that grades.

Two halves. `collect` reads how the policy's tree differs from the one it was given; what it returns is
data, filtered by rules that do not depend on anything inside the sandbox. `grade` lays that data over a
clean tree in a sandbox that never held a process of the policy, lays the trusted tests over it, runs them
and compares ids. The reward is computed here, outside.

Code under test could cheat from inside the test process; `envs.grading.checks` looks for that
(docs/reward.md).
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import lru_cache, partial

from sandboxes.backend import Backend

from ..tasksets.taskset import TaskSet
from ..tasksets.trees import Tree
from ..types import Task, Verdict
from .checks.inspection import Inspection, Listed, Reference, first_run
from .run import _run
from .submission import Submission, lay_trusted, reference_paths, submission_of
from .verdict import decide


def grade(submission: Submission, taskset: TaskSet, task: Task, backend: Backend) -> Verdict:
    """Grade a submission in clean sandboxes.

    A sandbox that cannot be started raises SandboxError: the policy cannot cause that. One that dies twice
    while the submission's code runs, though fresh ones start, is the submission's doing and scores 0; so is
    one that runs out of time.
    """
    started = time.monotonic()
    verdict = inspection(submission, taskset, task, backend).verdict()
    return replace(verdict, duration_s=time.monotonic() - started)


def inspection(submission: Submission, taskset: TaskSet, task: Task, backend: Backend) -> Inspection:
    """Make ready to inspect a submission; nothing runs yet."""
    return Inspection(
        listed=_listed(taskset, task),
        tree=graded_tree(submission, taskset, task),
        reference=partial(_reference, taskset, task, backend),
        run=partial(_run, taskset, task, backend),
        identity=f"{task.hash}\n{submission.patch}",
        decide=lambda report: decide(task, report, submission.tampered),
    )


def _listed(taskset: TaskSet, task: Task) -> Listed:
    return Listed(
        runner=taskset.runtime(task).tests.runner,
        files=task.test_files,
        fail_to_pass=task.fail_to_pass,
        pass_to_pass=task.pass_to_pass,
        flaky=taskset.flaky(task),
    )


@lru_cache(maxsize=4096)
def _reference(taskset: TaskSet, task: Task, backend: Backend) -> Reference:
    """What the reference patch of a task shows when it is graded; run when it is first asked for."""
    tree = graded_tree(submission_of(taskset.solved_tree(task), taskset, task), taskset, task)
    listed, run = _listed(taskset, task), partial(_run, taskset, task, backend)
    return Reference(tree, lru_cache(maxsize=1)(lambda: first_run(tree, listed, run)))


def graded_tree(submission: Submission, taskset: TaskSet, task: Task) -> Tree:
    """Lay the trusted tests and configuration over a submission; no other test file stays."""
    return lay_trusted(submission.tree, taskset.trusted_files(task), reference_paths(task.reference_patch))
