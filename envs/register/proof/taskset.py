"""Prove a task set as a whole: before it is written (`write_proven`), and again at any later time (`check`).

Grading proves every task, and no fix may be readable in an image or through the `prs` tool.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from envs.grading.run import SETUP_S, sandbox_spec
from envs.grading.submission import collect
from envs.tasksets.taskset import Manifest, PullRequest, TaskSet, load_taskset, verify_lock, write_taskset
from envs.tasksets.trees import Tree, pack
from envs.types import Task
from sandboxes.backend import Backend
from sandboxes.progress import Progress, silent

from ..errors import IMAGE_S, RegisterError, one_line
from ..settings import ProofSettings, RegisterSettings
from .cheats import CHEATS
from .hidden import hiding
from .leaks import pr_leaks
from .quarantine import add_evidence, quarantine
from .scan import ImageScan, scan_taskset
from .task import TaskCheck, prove_tasks
from .usage import with_usage

SHARE = 4
"""Fewest cheats tried on each task at registration; the tasks of a set take turns to cover all cheats."""

SHOWN = 3
"""Most leaks that are reported for one task."""

REFERENCE_RUNS = 1
"""Runs of the reference when a set is written; the tests already ran several times before."""


@dataclass(frozen=True)
class TaskSetProof:
    """Outcome of proving a task set."""

    checks: tuple[TaskCheck, ...]
    scans: Mapping[str, ImageScan]
    """Name of an environment to the scan of its image."""
    problems: tuple[str, ...]
    """Faults of the set as a whole."""

    @property
    def unfinished(self) -> tuple[str, ...]:
        """A line for every scan that ran out of time."""
        return tuple(
            f"the image of environment {name} could not be looked through in time"
            for name, scan in self.scans.items()
            if not scan.complete
        )

    @property
    def failing(self) -> dict[str, str]:
        """Task id to problems, for tasks with problems."""
        return {check.id: "; ".join(check.problems) for check in self.checks if check.problems}

    def evidence(self, runs: int) -> dict[str, Any]:
        """Return the part that `lock.json` keeps; `runs` is the number of reference runs."""
        return {
            "reference_runs": runs,
            "tasks": {check.id: dict(check.cheats) for check in self.checks},
            "cheats": sorted({name for check in self.checks for name in check.cheats}),
            "images": {
                name: {"looked": scan.looked, "unread": scan.unread, "complete": scan.complete}
                for name, scan in self.scans.items()
            },
        }


def prove_taskset(taskset: TaskSet, settings: ProofSettings, *, every_cheat: bool) -> TaskSetProof:
    """Prove a set whose images exist, with every cheat on every task or with a share of the cheats per task.

    Raises SandboxError.
    """
    if not taskset.tasks:
        return TaskSetProof((), {}, ("it has no tasks",))
    share = None if every_cheat else max(SHARE, math.ceil(len(CHEATS) / len(taskset.tasks)))
    scans = _scanned(taskset, settings)
    checks = prove_tasks(taskset, settings, share=share)
    leaks = _leaks(taskset, scans)
    checks = [replace(check, problems=(*check.problems, *leaks[check.id][:SHOWN])) for check in checks]
    return TaskSetProof(tuple(checks), scans, tuple(_untouched(taskset, settings.backend)))


def _scanned(taskset: TaskSet, settings: ProofSettings) -> dict[str, ImageScan]:
    what = "looking through the images for the fixes"
    settings.progress(what, 0, 1)
    scans = scan_taskset(taskset, backend=settings.backend)
    settings.progress(what, 1, 1)
    return scans


def _leaks(taskset: TaskSet, scans: Mapping[str, ImageScan]) -> dict[str, list[str]]:
    """Return task ids to the places where the fix can be read, a line per place."""
    found: dict[str, list[str]] = {task.id: [] for task in taskset.tasks}
    for scan in scans.values():
        for name, places in scan.leaks.items():
            found[name] += [f"the image has its fix: {place}" for place in places]
    for line in pr_leaks(taskset):
        name, _, leak = line.partition(": ")
        found[name].append(leak)
    return found


def _untouched(taskset: TaskSet, backend: Backend) -> list[str]:
    """Return the changes that an untouched sandbox seems to submit; none are right. Raises SandboxError."""
    task = taskset.tasks[0]
    sandbox = backend.open(sandbox_spec(taskset, task), timeout_s=SETUP_S)
    try:
        sandbox.unpack(pack(taskset.base_tree(task)), ".", timeout_s=SETUP_S)
        found = collect(sandbox, taskset, task, timeout_s=SETUP_S)
    finally:
        sandbox.close()
    strange = [*found.left_out, *(["changes nobody made"] if found.patch else [])]
    return [f"an untouched tree counts as touched: {line}" for line in strange[:3]]


@dataclass(frozen=True)
class Proposal:
    """A task set that is not written yet, with the fields of `write_taskset`."""

    manifest: Manifest
    tasks: Sequence[Task]
    trees: Iterable[Tree]
    prs: Sequence[PullRequest] = ()
    records: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Written:
    """A task set on disk."""

    taskset: TaskSet
    quarantined: Mapping[str, str]
    """Task id to reason, for tasks that failed the proof; also in `quarantine.jsonl`."""


def write_proven(proposal: Proposal, settings: RegisterSettings) -> Written:
    """Prove a task set and write the set to `settings.out`; a task that fails the proof is quarantined.

    The images must exist. `settings.out` is not created before the proof is complete. Raises TaskSetError,
    SandboxError, and RegisterError when no task is left or the set as a whole has a fault.
    """
    folder, name, tasks = settings.out, proposal.manifest.name, proposal.tasks
    proposal = replace(proposal, trees=tuple(proposal.trees))
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        beside = scratch / folder.name
        manifest, known = with_usage(_write(scratch / "plain", proposal), settings)
        taskset = _write(beside, replace(proposal, manifest=manifest, tasks=known))
        proof = prove_taskset(taskset, replace(settings, runs=REFERENCE_RUNS), every_cheat=False)
        if proof.problems:
            raise RegisterError(f"the tasks of {name} cannot be trusted: {proof.problems[0]}")
        failing = proof.failing
        if len(failing) == len(tasks):
            task, reason = next(iter(failing.items()))
            raise RegisterError(f"none of {len(tasks)} tasks of {name} holds; {task}: {reason}")
        kept = quarantine(beside, failing).tasks
        add_evidence(beside, {"confirmed": proof.evidence(REFERENCE_RUNS), "hidden": hiding(kept)})
        os.rename(beside, folder)  # noqa: PTH104 (refuses a folder that appeared meanwhile)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Written(load_taskset(folder), failing)


def _write(folder: Path, proposal: Proposal) -> TaskSet:
    return write_taskset(
        folder,
        proposal.manifest,
        proposal.tasks,
        proposal.trees,
        prs=proposal.prs,
        records=proposal.records,
        evidence=proposal.evidence,
    )


@dataclass(frozen=True)
class CheckReport:
    """Outcome of `check`."""

    name: str
    results: tuple[TaskCheck, ...]
    problems: tuple[str, ...]
    """Faults of the set as a whole."""
    wall_s: float
    cheats: tuple[str, ...] = ()
    """Names of all tried cheats."""
    quarantined: Mapping[str, str] = field(default_factory=dict)
    """Task id to reason, for tasks that were removed from the set."""
    hidden: Mapping[str, int] = field(default_factory=dict)
    """Tasks whose failing tests are all, in part (`some`) or not hidden from the policy."""

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
    """Prove a task set again: for every task the empty patch, the reference patch (`runs` times) and every
    cheat are graded, digests are compared, and the images are scanned.

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
        settings = ProofSettings(backend=backend, runs=runs, workers=workers, progress=progress)
        proof = prove_taskset(taskset, settings, every_cheat=True)
        changed = verify_lock(taskset)
        failing = {
            task.id: line for task in taskset.tasks for line in changed if line.startswith(f"{task.id} ")
        }
        failing |= proof.failing
        if remove:
            quarantine(folder, failing)
    return CheckReport(
        name=taskset.name,
        results=proof.checks,
        problems=(*changed, *proof.problems, *proof.unfinished),
        wall_s=time.monotonic() - started,
        cheats=tuple(sorted({name for check in proof.checks for name in check.cheats})),
        quarantined=failing if remove else {},
        hidden=hiding(taskset.tasks),
    )
