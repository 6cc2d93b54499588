"""Validate perturbed tasks by grading them.

A perturbed task is valid if an empty submission passes exactly the pass-to-pass tests, the rewritten
reference patch resolves the task, and the original reference patch does not. If a perturbation is invalid,
weaker perturbations are tried; a task without a valid perturbation is left out, with a recorded reason.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from envs.grading.grade import grade
from envs.grading.run import sandbox_spec
from envs.grading.submission import submission_of
from envs.parallel import fitting_workers, in_order
from envs.tasksets.taskset import TaskSet, TaskSetError, load_taskset
from envs.tasksets.trees import PatchError, apply_patch
from envs.types import Task
from sandboxes.backend import Backend
from sandboxes.progress import Progress, silent

from .plan import ALL, CAREFUL, LOCAL, Strength, perturbation
from .survey import product_files
from .tasks import ORIGIN, perturbed_task, write_perturbed

NO_PYTHON = "there is no Python code in it that may be changed"
NOTHING = "nothing in it can be called otherwise"
UNCHANGED = "the old solution still solves it"
BROKEN = "its reference no longer passes"
OTHERWISE = "it no longer fails as it did"
LEDGER = "perturbation.json"


@dataclass(frozen=True)
class PerturbedSets:
    """Perturbed task sets, and the tasks without a valid perturbation."""

    seed: int
    tasksets: tuple[TaskSet, ...]
    """One task set per perturbed task."""
    strength: Mapping[str, Strength] = field(default_factory=dict)
    """Original task id to strength."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Original task id to reason."""

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Pairs of original and perturbed task id."""
        return tuple(
            (str(task.traits[ORIGIN]), task.id) for taskset in self.tasksets for task in taskset.tasks
        )


def perturb(
    tasks: Sequence[tuple[TaskSet, Task]],
    folder: Path,
    *,
    seed: int,
    backend: Backend,
    workers: int | None = None,
    progress: Progress = silent,
) -> PerturbedSets:
    """Perturb tasks into task sets under `folder`; an existing folder is read back instead.

    Raises TaskSetError when the folder is of another seed or of other tasks, SandboxError when no sandbox
    is available.
    """
    wanted = {task.id: task.hash for _, task in tasks}
    if (folder / LEDGER).is_file():
        return _read(folder, seed, wanted)
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        strength, left_out = dict[str, Strength](), dict[str, str]()
        what = "perturbing tasks"
        progress(what, 0, len(tasks))

        def work(lent: Backend, pair: tuple[TaskSet, Task]) -> Strength | str:
            return perturb_one(*pair, beside / _folder(pair[1].id), seed=seed, backend=lent)

        size = workers or (fitting_workers(sandbox_spec(*tasks[0])) if tasks else 1)
        with closing(in_order(work, tasks, backend=backend, workers=size)) as found:
            for (_, task), result in zip(tasks, found, strict=True):
                if isinstance(result, str):
                    left_out[task.id] = result
                else:
                    strength[task.id] = result
                progress(what, len(strength) + len(left_out), len(tasks))
        ledger = {
            "seed": seed,
            "tasks": wanted,
            "strength": {name: asdict(measure) for name, measure in strength.items()},
            "left_out": left_out,
        }
        (beside / LEDGER).write_text(json.dumps(ledger, indent=1, ensure_ascii=False) + "\n", "utf-8")
        beside.chmod(0o755)
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return _read(folder, seed, wanted)


def perturb_one(taskset: TaskSet, task: Task, folder: Path, *, seed: int, backend: Backend) -> Strength | str:
    """Perturb a task with the strongest setting that validates; return the strength, or why none does."""
    if not product_files(taskset.base_tree(task)):
        return NO_PYTHON
    reasons = list[str]()
    for means in (ALL, CAREFUL, LOCAL):
        change = perturbation(taskset, task, seed=seed, means=means)
        try:
            done = perturbed_task(taskset, task, change)
        except PatchError as error:
            return f"it cannot be rewritten: {error}"
        if not done.strength.lines_changed and not done.strength.files_moved:
            break
        written = write_perturbed(folder, taskset, task, done, change)
        reason = fault(written, written.tasks[0], task.reference_patch, backend)
        if not reason:
            return done.strength
        shutil.rmtree(folder)
        reasons.append(reason)
        if reason == UNCHANGED:
            break  # a weaker perturbation would not break the original patch either
    return reasons[0] if reasons else NOTHING


def fault(taskset: TaskSet, task: Task, old_patch: str, backend: Backend) -> str:
    """Grade a perturbed task; return the reason why the task is invalid, or an empty string.

    `old_patch` is the original reference patch. Raises SandboxError.
    """
    if not grade(submission_of(taskset.solved_tree(task), taskset, task), taskset, task, backend).resolved:
        return BROKEN
    idle = grade(submission_of(taskset.base_tree(task), taskset, task), taskset, task, backend)
    if set(idle.passed) != set(task.pass_to_pass):
        return OTHERWISE
    try:
        remembered = apply_patch(taskset.base_tree(task), old_patch)
    except PatchError:
        return ""
    return (
        UNCHANGED if grade(submission_of(remembered, taskset, task), taskset, task, backend).resolved else ""
    )


def _folder(task_id: str) -> str:
    return task_id.replace("/", "__")


def _read(folder: Path, seed: int, wanted: Mapping[str, str]) -> PerturbedSets:
    try:
        ledger: dict[str, Any] = json.loads((folder / LEDGER).read_bytes())
        if ledger["seed"] != seed or ledger["tasks"] != dict(wanted):
            raise TaskSetError(f"{folder} holds other tasks, or those of another seed; name another folder")
        strength = {name: Strength(**fields) for name, fields in ledger["strength"].items()}
        left_out = dict(ledger["left_out"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TaskSetError(f"{folder}/{LEDGER} cannot be read: {error}") from error
    sets = tuple(load_taskset(folder / _folder(name)) for name in strength)
    return PerturbedSets(seed, sets, strength, left_out)
