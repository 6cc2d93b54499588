"""Prove a task set again, whatever happened to it and to this machine since it was registered."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from envs.tasksets.taskset import load_taskset, verify_lock
from sandboxes.backend import Backend
from sandboxes.progress import Progress, silent

from ..errors import IMAGE_S, RegisterError, one_line
from .examine import examine
from .prove import TaskCheck
from .quarantine import quarantine


@dataclass(frozen=True)
class CheckReport:
    """What `check` found."""

    name: str
    results: tuple[TaskCheck, ...]
    problems: tuple[str, ...]
    """What is wrong with the set as a whole."""
    wall_s: float
    cheats: tuple[str, ...] = ()
    """Every cheat that was tried."""
    quarantined: Mapping[str, str] = field(default_factory=dict)
    """Tasks that were taken out of the set, each with its reason."""

    @property
    def broken(self) -> tuple[TaskCheck, ...]:
        return tuple(result for result in self.results if result.problems)

    @property
    def ok(self) -> bool:
        return not self.broken and not self.problems


def check(
    folder: Path,
    *,
    runs: int = 3,
    remove: bool = False,
    backend: Backend,
    workers: int | None = None,
    progress: Progress = silent,
) -> CheckReport:
    """Grade the empty patch, the reference patch (`runs` times) and every cheat for every task; compare
    digests; look through the images.

    With `remove`, tasks that fail are moved to the quarantine with their reasons. Raises RegisterError when
    the set cannot be read or the sandboxes fail.
    """
    started = time.monotonic()
    if runs < 1:
        raise RegisterError("the reference patch has to be run at least once (--runs)")
    with one_line():
        taskset = load_taskset(folder)
        for environment in taskset.manifest.environments.values():
            backend.ensure_image(environment.image, timeout_s=IMAGE_S, progress=progress)
        found = examine(
            taskset, backend=backend, runs=runs, every_cheat=True, workers=workers, progress=progress
        )
        altered = verify_lock(taskset)
        failing = {
            task.id: line for task in taskset.tasks for line in altered if line.startswith(f"{task.id} ")
        }
        failing |= found.failing
        if remove:
            quarantine(folder, failing)
    return CheckReport(
        name=taskset.name,
        results=found.checks,
        problems=(*altered, *found.problems, *found.unfinished),
        wall_s=time.monotonic() - started,
        cheats=tuple(sorted({name for each in found.checks for name in each.cheats})),
        quarantined=failing if remove else {},
    )
