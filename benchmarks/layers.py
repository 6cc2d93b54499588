"""Measure the cost of each grading layer for test suites of different size, beside a bare test run."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from envs.grading.checks.inspection import first_run
from envs.grading.checks.rerun import plans, rerun
from envs.grading.checks.runs import RunRequest
from envs.grading.grade import grade, inspection
from envs.grading.submission import Submission, submission_of
from envs.tasksets.trees import TreeFile
from sandboxes.backend import Backend
from sandboxes.progress import Progress, silent

from .episodes import IMAGE_S, Row, bare_run, summarise, timed
from .task import bench_taskset

SUITES = (1, 5, 200)
"""Numbers of tests in a suite. The tests are trivial, so that the cost of grading dominates."""


def measure_layers(
    backend: Backend,
    folder: Path,
    *,
    suites: Sequence[int] = SUITES,
    rounds: int = 20,
    progress: Progress = silent,
) -> dict[str, Row]:
    """Time a passing submission in milliseconds: bare, forked, with each layer, and from patch to verdict.

    `backend` should be a pool. Each round measures every row of a suite once. Raises AssertionError when the
    submission does not pass.
    """
    table: dict[str, Row] = {}
    for number, tests in enumerate(suites):
        progress("measuring layers", number, len(suites))
        name = f"{tests} tests" if tests > 1 else "1 test"
        rows = _suite(backend, folder / str(tests), tests, rounds)
        table |= {f"{name}, {row}": summarise(times) for row, times in rows.items()}
    return table


def _suite(backend: Backend, folder: Path, tests: int, rounds: int) -> dict[str, list[float]]:
    taskset = bench_taskset(folder, tests=tests)
    task = taskset.tasks[0]
    backend.ensure_image(taskset.runtime(task).image, timeout_s=IMAGE_S)
    solved, numbers = taskset.solved_tree(task), itertools.count()

    def another() -> Submission:
        """Return a new passing submission: the depth of the inspection is drawn from the patch."""
        readme = TreeFile(f"Baskets, {next(numbers)}.\n".encode())
        return submission_of({**solved, "README.md": readme}, taskset, task)

    submission = another()
    looked = inspection(submission, taskset, task, backend)
    tree, listed, run = looked.tree, looked.runs.listed, looked.runs.run

    def judge() -> None:
        assert grade(another(), taskset, task, backend).resolved

    def look_again() -> None:
        for chosen in plans(listed.runner, listed.fail_to_pass, listed.pass_to_pass, tree, looked.identity):
            finding = rerun(chosen, tree, lambda: tree, run)
            assert not (finding.failed or finding.tampered), finding

    work: dict[str, Callable[[], Any]] = {
        "bare pytest, cold": lambda: bare_run(taskset, task, backend),
        "forked, without layers": lambda: timed(lambda: run(tree, [RunRequest(listed.files)])),
        "forked, with canaries and tripwire": lambda: timed(lambda: first_run(tree, listed, run)),
        "second look": lambda: timed(look_again),
        "patch to verdict": lambda: timed(judge),
    }
    times: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + 2):
        for name, measure in work.items():
            seconds = measure()
            if number > 1:  # sandboxes and their templates start meanwhile
                times[name].append(seconds)
    return times
