"""Everything a task set must stand: each task proven by grading, no cheat that passes, and the fix nowhere to
be read, neither in an image nor through the `prs` tool."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from envs.grading.run import SETUP_S, sandbox_spec
from envs.grading.submission import collect
from envs.tasksets.taskset import TaskSet
from envs.tasksets.trees import pack
from sandboxes.backend import Backend
from sandboxes.progress import Progress, silent

from .cheats import CHEATS
from .leaks import pr_leaks
from .prove import TaskCheck, prove_tasks
from .scan import ImageScan, scan_taskset

SHARE = 4
"""Cheats tried on each task when a set is registered; all of them are, on some task."""

SHOWN = 3
"""Leaks of one task that are told."""


@dataclass(frozen=True)
class Examination:
    """What was found about a task set."""

    checks: tuple[TaskCheck, ...]
    scans: Mapping[str, ImageScan]
    """By environment."""
    problems: tuple[str, ...]
    """What is wrong with the set as a whole."""

    @property
    def unfinished(self) -> tuple[str, ...]:
        """What could not be looked at to the end, one line each."""
        return tuple(
            f"the image of environment {name} could not be looked through in time"
            for name, scan in self.scans.items()
            if not scan.complete
        )

    @property
    def failing(self) -> dict[str, str]:
        """Tasks that are not what they claim to be, each with why."""
        return {check.id: "; ".join(check.problems) for check in self.checks if check.problems}

    def evidence(self, runs: int) -> dict[str, Any]:
        """What `lock.json` keeps of it."""
        return {
            "reference_runs": runs,
            "tasks": {check.id: dict(check.cheats) for check in self.checks},
            "cheats": sorted({name for check in self.checks for name in check.cheats}),
            "images": {
                name: {"looked": scan.looked, "unread": scan.unread, "complete": scan.complete}
                for name, scan in self.scans.items()
            },
        }


def examine(
    taskset: TaskSet,
    *,
    backend: Backend,
    runs: int,
    every_cheat: bool,
    workers: int | None = None,
    progress: Progress = silent,
) -> Examination:
    """Examine a set whose images are there. Raises SandboxError."""
    if not taskset.tasks:
        return Examination((), {}, ("it has no tasks",))
    share = None if every_cheat else max(SHARE, math.ceil(len(CHEATS) / len(taskset.tasks)))
    scans = _scanned(taskset, backend, progress)
    checks = prove_tasks(taskset, backend=backend, runs=runs, share=share, workers=workers, progress=progress)
    leaks = _leaks(taskset, scans)
    checks = [replace(check, problems=(*check.problems, *leaks[check.id][:SHOWN])) for check in checks]
    return Examination(tuple(checks), scans, tuple(_untouched(taskset, backend)))


def _scanned(taskset: TaskSet, backend: Backend, progress: Progress) -> dict[str, ImageScan]:
    what = "looking through the images for the fixes"
    progress(what, 0, 1)
    scans = scan_taskset(taskset, backend=backend)
    progress(what, 1, 1)
    return scans


def _leaks(taskset: TaskSet, scans: Mapping[str, ImageScan]) -> dict[str, list[str]]:
    """Where each task's fix can be read, one line a place."""
    found: dict[str, list[str]] = {task.id: [] for task in taskset.tasks}
    for scan in scans.values():
        for name, places in scan.leaks.items():
            found[name] += [f"the image has its fix: {place}" for place in places]
    for line in pr_leaks(taskset):
        name, _, told = line.partition(": ")
        found[name].append(told)
    return found


def _untouched(taskset: TaskSet, backend: Backend) -> list[str]:
    """A sandbox in which nothing was done must give an empty submission. Raises SandboxError."""
    task = taskset.tasks[0]
    sandbox = backend.open(sandbox_spec(taskset, task), timeout_s=SETUP_S)
    try:
        sandbox.unpack(pack(taskset.base_tree(task)), ".", timeout_s=SETUP_S)
        found = collect(sandbox, taskset, task, timeout_s=SETUP_S)
    finally:
        sandbox.close()
    strange = [*found.tampered, *found.dropped, *(["changes nobody made"] if found.patch else [])]
    return [f"an untouched tree counts as touched: {each}" for each in strange[:3]]
