"""Grade a submission: run the hidden tests on it in a clean sandbox, and check that the result is honest.

`grade` is the only entry point. It lays the submitted files over a clean tree in a sandbox that never held a
process of the policy, lays the trusted tests over both, runs them and compares test ids. The verdict is
decided here, outside the sandbox. Code under test could still cheat from inside the test process;
`envs.grading.checks` detects that (docs/reward.md).
"""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import dataclass, replace
from functools import lru_cache, partial

from sandboxes.backend import Backend
from sandboxes.base import SandboxError, SandboxUnavailable

from ..tasksets.taskset import TaskSet
from ..tasksets.trees import Tree
from ..types import Task, Verdict
from .checks.inspection import Inspection, Listed, Runs
from .rules import reference_paths
from .run import run_graded
from .submission import Submission, lay_trusted, submission_of

NAMED = 5
"""Changes that were not graded and are named in a verdict."""
NOT_GRADED = "not graded"
"""The key of these changes in the layers of a verdict."""
GRADINGS = 2
"""Tries of a grading that breaks by a defect: one that passes by must not cost an honest submission."""
AT_ONCE = max(2, os.cpu_count() or 1)
"""Gradings of this process at once: more of them would only take processor time from each other."""
GATE_S = 3600.0
"""Longest wait for other gradings, each of which ends by its own deadlines."""
_gate = threading.BoundedSemaphore(AT_ONCE)
_log = logging.getLogger(__name__)


def grade(submission: Submission, taskset: TaskSet, task: Task, backend: Backend) -> Verdict:
    """Grade a submission in clean sandboxes.

    Raises SandboxError when a sandbox cannot be started, which the policy cannot cause. A sandbox that dies
    twice while the submission's code runs, though new ones start, counts against the submission and scores
    0; so does a timeout, and so does a defect of the grading that shows twice, which is logged with its
    traceback.
    """
    return grade_repeatably(submission, taskset, task, backend).verdict


@dataclass(frozen=True)
class Grading:
    """A verdict, and whether another grading of the same submission must come to it too."""

    verdict: Verdict
    repeatable: bool


def grade_repeatably(submission: Submission, taskset: TaskSet, task: Task, backend: Backend) -> Grading:
    """Grade as `grade` does, and say whether the verdict is repeatable. Raises SandboxError."""
    started = time.monotonic()
    if not _gate.acquire(timeout=GATE_S):
        raise SandboxUnavailable(f"other gradings have occupied this process for {GATE_S:.0f} s")
    try:
        grading = _graded(submission, taskset, task, backend)
    finally:
        _gate.release()
    return replace(grading, verdict=replace(grading.verdict, duration_s=time.monotonic() - started))


def _graded(submission: Submission, taskset: TaskSet, task: Task, backend: Backend) -> Grading:
    expected = (*task.fail_to_pass, *task.pass_to_pass)
    grading = Grading(Verdict(resolved=False, missing=expected), repeatable=False)
    for _ in range(GRADINGS):
        try:
            inspected = inspection(submission, taskset, task, backend)
            grading = Grading(inspected.verdict(), inspected.repeatable)
            break
        except SandboxError:
            raise
        except Exception as error:  # nothing that a policy hands in may end a run
            _log.exception("the grading of %s broke", task.id)
            broke = f"the grading broke: {type(error).__name__}: {error}"
            grading = replace(grading, verdict=replace(grading.verdict, log=broke))
    return grading


def inspection(submission: Submission, taskset: TaskSet, task: Task, backend: Backend) -> Inspection:
    """Prepare the inspection of a submission; no test runs yet."""
    return Inspection(
        _runs(taskset, task, backend),
        graded_tree(submission, taskset, task),
        identity=f"{task.hash}\n{submission.patch}",
    )


def noted(verdict: Verdict, submission: Submission) -> Verdict:
    """Return the verdict with a line about the changes that were not graded, where there are any."""
    lines = submission.left_out
    if not lines:
        return verdict
    more = f"; and {len(lines) - NAMED} more" if len(lines) > NAMED else ""
    return replace(verdict, layers={**verdict.layers, NOT_GRADED: "; ".join(lines[:NAMED]) + more})


@lru_cache(maxsize=4096)
def _runs(taskset: TaskSet, task: Task, backend: Backend) -> Runs:
    """Return the cached runs of a task, so that its reference runs once for all submissions."""
    listed = Listed(
        runner=taskset.runtime(task).tests.runner,
        files=task.test_files,
        fail_to_pass=task.fail_to_pass,
        pass_to_pass=task.pass_to_pass,
        flaky=taskset.flaky(task),
    )

    def solve() -> Tree:
        return graded_tree(submission_of(taskset.solved_tree(task), taskset, task), taskset, task)

    return Runs(listed, partial(run_graded, taskset, task, backend), solve)


def graded_tree(submission: Submission, taskset: TaskSet, task: Task) -> Tree:
    """Lay the trusted tests and configuration over a submission, and drop all other test files."""
    return lay_trusted(submission.tree, taskset.trusted_files(task), reference_paths(task.reference_patch))
