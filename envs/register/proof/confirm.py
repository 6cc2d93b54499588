"""What is registered was proven: a task set is examined before it stands in its place."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs.tasksets.taskset import Manifest, PullRequest, TaskSet, load_taskset, write_taskset
from envs.tasksets.trees import TreeFile
from envs.types import Task
from sandboxes.backend import Backend
from sandboxes.progress import Progress, silent

from ..errors import RegisterError
from .examine import examine
from .quarantine import add_evidence, quarantine

CONFIRMING_RUNS = 1
"""Times the reference must pass once more: the tests were already run many times on the way here."""


@dataclass(frozen=True)
class Confirmed:
    """A task set in its place, and what was kept out of it."""

    taskset: TaskSet
    quarantined: Mapping[str, str]
    """Tasks that did not hold, each with its reason; also in `quarantine.jsonl`."""


def write_confirmed(
    folder: Path,
    manifest: Manifest,
    tasks: Sequence[Task],
    trees: Iterable[Mapping[str, TreeFile]],
    *,
    prs: Sequence[PullRequest] = (),
    records: Mapping[str, Sequence[Any]] | None = None,
    evidence: Mapping[str, Any] | None = None,
    backend: Backend,
    workers: int | None = None,
    progress: Progress = silent,
) -> Confirmed:
    """Write a task set as `write_taskset` does, examined: a task that does not hold is quarantined.

    The images must be there. Until everything is proven, nothing stands at `folder`. Raises TaskSetError,
    SandboxError, and RegisterError when no task is left or the set as a whole is wrong.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    above = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        beside = above / folder.name
        taskset = write_taskset(beside, manifest, tasks, trees, prs=prs, records=records, evidence=evidence)
        found = examine(
            taskset,
            backend=backend,
            runs=CONFIRMING_RUNS,
            every_cheat=False,
            workers=workers,
            progress=progress,
        )
        if found.problems:
            raise RegisterError(f"the tasks of {manifest.name} cannot be trusted: {found.problems[0]}")
        failing = found.failing
        if len(failing) == len(tasks):
            task, reason = next(iter(failing.items()))
            raise RegisterError(f"none of {len(tasks)} tasks of {manifest.name} holds; {task}: {reason}")
        quarantine(beside, failing)
        add_evidence(beside, {"confirmed": found.evidence(CONFIRMING_RUNS)})
        os.rename(beside, folder)  # noqa: PTH104 (refuses a folder that appeared meanwhile)
    finally:
        shutil.rmtree(above, ignore_errors=True)
    return Confirmed(load_taskset(folder), failing)
