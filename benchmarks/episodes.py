"""Episode latency: reset, each tool, and grading, beside the time of the tests alone."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from envs.coding import CodingEnv
from envs.grading.grade import grade
from envs.grading.run import SETUP_S, sandbox_spec
from envs.grading.submission import submission_of
from envs.tasksets.taskset import TaskSet
from envs.tasksets.trees import pack
from envs.types import Task, ToolCall
from sandboxes.backend import Backend
from sandboxes.progress import Progress, silent

from .task import bench_taskset, ten_steps

IMAGE_S = 900.0
FILL_S = 5.0
"""Duration of the warm-up episodes: the start of pooled sandboxes would slow measured episodes."""
Row = dict[str, float]
"""Milliseconds: p50, p99, and the number of samples as `n`."""


def measure_steps(
    taskset: TaskSet, backend: Backend, *, rounds: int = 50, progress: Progress = silent
) -> dict[str, Row]:
    """Time `reset` and one call of each tool on the set's first task, environment overhead included."""
    task = taskset.tasks[0]
    path = next(name for name in sorted(taskset.base_tree(task)) if name.endswith(".py"))
    calls = {
        "view": {"path": path, "start": 1, "end": 20},
        "edit": {"path": path, "insert_line": 0, "new": "# measured"},
        "search": {"query": "import"},
        "search, regular expression": {"query": "^import", "kind": "regex"},
        "search, definition": {"query": "main", "kind": "definition"},
        "search, meaning": {"query": "where are options read", "kind": "meaning"},
        "prs": {"search": "fix"},
        "shell": {"command": "true"},
    }
    times: dict[str, list[float]] = {"reset": []} | {name: [] for name in calls}
    with CodingEnv([taskset], backend=backend) as env:
        for number in range(max(rounds // 10, 2)):
            progress("measuring steps", number, max(rounds // 10, 2))
            times["reset"].append(timed(lambda: env.reset(options={"task": task.id})))
            budget = task.limits.max_turns - 1
            for turn in range(min(10, budget // len(calls))):
                for name, arguments in calls.items():
                    call = ToolCall(str(turn), name.partition(",")[0], arguments)
                    times[name].append(timed(lambda call=call: env.step(call)))
    return {name: summarise(values) for name, values in times.items()}


def measure_grading(
    taskset: TaskSet, backend: Backend, *, rounds: int = 10, progress: Progress = silent
) -> dict[str, Row]:
    """Time grading the reference of the set's task with the fewest tests, and the same tests run bare."""
    task = min(taskset.tasks, key=lambda known: len(known.fail_to_pass) + len(known.pass_to_pass))
    submission = submission_of(taskset.solved_tree(task), taskset, task)
    whole, bare = list[float](), list[float]()
    for number in range(rounds):
        progress("measuring grading", number, rounds)
        whole.append(timed(lambda: grade(submission, taskset, task, backend)))
        bare.append(bare_run(taskset, task, backend))
    return {"grade, from patch to verdict": summarise(whole), "the same tests, bare pytest": summarise(bare)}


def bare_run(taskset: TaskSet, task: Task, backend: Backend) -> float:
    """Return the seconds of a bare `python3 -m pytest` inside a running sandbox."""
    sandbox = backend.open(sandbox_spec(taskset, task), timeout_s=SETUP_S)
    try:
        sandbox.unpack(pack(taskset.solved_tree(task) | taskset.trusted_files(task)), ".", timeout_s=SETUP_S)
        paths = ":".join(["/opt/env", *taskset.runtime(task).tests.import_paths])
        command = ["python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", *task.test_files]
        return timed(lambda: sandbox.exec(command, timeout_s=task.limits.test_s, env={"PYTHONPATH": paths}))
    finally:
        sandbox.close()


def measure_episodes(
    backend: Backend,
    folder: Path,
    *,
    concurrency: int = 4,
    seconds: float = 20.0,
    progress: Progress = silent,
) -> dict[str, Row]:
    """Measure episodes per second: reset, ten steps, grading five tests. `backend` should be a pool.

    `concurrency` threads, each with its own environment, play for about `seconds` after a warm-up. The other
    rows are milliseconds of each part of an episode, with waits for the processor, and of the tests alone.
    Raises AssertionError unless every episode is solved.
    """
    taskset = bench_taskset(folder)
    task, numbers = taskset.tasks[0], itertools.count()
    times: dict[str, list[float]] = {"reset": [], "ten steps": [], "submit and grade": []}
    solved = list[bool]()

    def play(until: float) -> None:
        with CodingEnv([taskset], backend=backend) as env:
            while time.monotonic() < until:
                times["reset"].append(timed(lambda: env.reset(options={"task": task.id})))
                calls = ten_steps(next(numbers))
                times["ten steps"].append(timed(lambda calls=calls: [env.step(call) for call in calls]))
                started = time.perf_counter()
                solved.append(env.step(ToolCall("", "submit", {}))[1] == 1.0)
                times["submit and grade"].append(time.perf_counter() - started)
                progress("measuring episodes", len(solved), 0)

    backend.ensure_image(taskset.runtime(task).image, timeout_s=IMAGE_S, progress=progress)
    with ThreadPoolExecutor(concurrency) as threads:
        list(threads.map(play, [time.monotonic() + FILL_S] * concurrency))
        for kept in (*times.values(), solved):
            kept.clear()
        started = time.monotonic()
        list(threads.map(play, [started + seconds] * concurrency))
        rate = len(solved) / (time.monotonic() - started)
    assert all(solved), f"{solved.count(False)} of {len(solved)} episodes were not solved"
    rows = {f"{name}, ms": summarise(values) for name, values in times.items()}
    rows["the tests alone, bare pytest, ms"] = summarise([bare_run(taskset, task, backend) for _ in range(5)])
    return {f"episodes, {concurrency} at once": {"per_second": rate, "n": float(len(solved))}} | rows


def summarise(times: Sequence[float]) -> Row:
    """Return median, 99th percentile and number of times in seconds; the result is in milliseconds."""
    ordered = sorted(times)
    last = ordered[min(len(ordered) - 1, round(0.99 * (len(ordered) - 1)))]
    return {"p50": statistics.median(ordered) * 1e3, "p99": last * 1e3, "n": float(len(ordered))}


def timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
