"""The demo: a small policy visibly learns on repositories that it has never seen, without test doubles.

    a real library becomes tasks → the oracle proves them → practice repositories
    → evaluation on held-out ones → RL on the outcome of real tests → the same evaluation again → report.html

The policy comes with the package (`trainer.shipped`): it has been taught by an imperfect teacher, and
has never been reinforced. `configs/practice.toml` starts from nothing instead.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

from agents.evals.evaluate import EvalSettings, evaluate
from agents.evals.scores import EvalSummary
from agents.policies.scripted import OraclePolicy
from agents.runs.folder import read_manifest
from agents.viewer.report import write_report
from envs.register import RegisterSettings, register_inject, register_practice
from envs.tasksets.taskset import TaskSet, load_taskset, verify_lock
from sandboxes.backend import Backend
from sandboxes.progress import Progress, silent

from .config import Config, load
from .loop import TrainSummary, train_in
from .run import TrainingRun

LIBRARY, SOURCE, LIBRARY_TASKS = "inflection", "pypi:inflection==0.5.1", 16
PRACTICE, PRACTICE_TASKS = "practice", 800
SEED = 0


class DemoError(Exception):
    """A stage of the demo failed. One sentence."""


def run_demo(
    out: Path,
    config: Path,
    *,
    tasks: Path,
    backend: Backend,
    overrides: tuple[str, ...] = (),
    progress: Progress = silent,
) -> dict[str, Any]:
    """Run the demo in the new run folder `out`; task sets already in `tasks` are reused.

    Returns the contents of `out/summary.json`. Raises the errors of its stages, each with one line.
    """
    started = time.monotonic()
    folder = json.dumps([str((tasks / PRACTICE).resolve())])
    settings = load(config, [f"tasks.sets={folder}", f"sandbox.backend={backend.name}", *overrides])
    library, practice = _registered(tasks, backend, progress)
    run = TrainingRun.begin(out, settings)
    oracle = _oracle(run, library, settings, backend, progress)
    trained = train_in(run, progress=progress)
    summary = _summary(run, practice, backend, oracle, trained) | {
        "wall_s": round(time.monotonic() - started, 1),
        "report": str(out / "report.html"),
    }
    run.write_summary(summary)
    write_report(out)
    return summary


def _registered(tasks: Path, backend: Backend, progress: Progress) -> tuple[TaskSet, TaskSet]:
    """Return both task sets, registered now or earlier. Raises `DemoError` for a changed set."""

    def settings(name: str, number: int) -> RegisterSettings:
        return RegisterSettings(out=tasks / name, limit=number, backend=backend, progress=progress)

    if not (tasks / LIBRARY).exists():
        register_inject(SOURCE, settings(LIBRARY, LIBRARY_TASKS), seed=SEED)
    if not (tasks / PRACTICE).exists():
        register_practice(settings(PRACTICE, PRACTICE_TASKS), seed=SEED)
    return _unchanged(tasks / LIBRARY), _unchanged(tasks / PRACTICE)


def _unchanged(folder: Path) -> TaskSet:
    taskset = load_taskset(folder)
    changed = verify_lock(taskset)
    if changed:
        raise DemoError(f"{folder}: {changed[0]}; remove the folder to register it anew")
    return taskset


def _oracle(
    run: TrainingRun, library: TaskSet, settings: Config, backend: Backend, progress: Progress
) -> EvalSummary:
    """Solve every held-out task of the library with its reference patch, through the policy's tools."""

    def shown(what: str, done: int, total: int) -> None:
        progress(f"oracle, {what}", done, total)

    folder, concurrency = run.path / "evals" / "oracle", settings.sandbox.concurrency
    how = EvalSettings(folder, split=settings.tasks.heldout, concurrency=concurrency)
    summary = evaluate(OraclePolicy(), [library], how, backend=backend, progress=shown)
    if summary.pass_rate != 1.0:
        raise DemoError(
            f"the oracle solved {summary.resolved} of {summary.scored} held-out tasks, so the tasks are not "
            f"sound; see {folder}"
        )
    return summary


def _summary(
    run: TrainingRun, practice: TaskSet, backend: Backend, oracle: EvalSummary, trained: TrainSummary
) -> dict[str, Any]:
    heldout = sum(task.split == "heldout" for task in practice.tasks)
    heldout = min(heldout, run.config.eval.max_tasks or heldout)
    before, after = trained.heldout_first, trained.heldout_last
    return {
        "tasks": len(practice.tasks),
        "heldout": heldout,
        "sandbox": backend.name,
        "engine": read_manifest(run.path)["versions"].get("vllm", "none"),
        "oracle_pass_rate": oracle.pass_rate,
        "pass_rate_before": before,
        "pass_rate_after": after,
        "stderr_after": _stderr(after, heldout),
        "train_steps": trained.steps,
        "episodes": trained.episodes,
    }


def _stderr(rate: float | None, number: int) -> float | None:
    """Return the standard error of a pass rate over `number` tasks, one episode each."""
    return None if rate is None else round(math.sqrt(rate * (1 - rate) / number), 4)
