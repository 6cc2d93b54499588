"""The demo: registration, evaluation and training end to end, on real libraries and without test doubles.

    register two libraries → oracle on the held-out tasks → untrained policy on them → SFT → RL
    → the same held-out tasks again → summary.json, report.html

The demo shows that the loop works on this machine, not that the policy learns: the policy is a tiny model
with random weights and minutes of training, and its pass rates are reported unchanged.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.evals.evaluate import EvalSettings, evaluate
from agents.evals.scores import EvalSummary
from agents.policies.scripted import OraclePolicy
from agents.runs.folder import read_manifest
from agents.viewer.report import write_report
from envs.register import RegisterSettings, register_inject
from envs.tasksets.taskset import TaskSet, load_taskset, verify_lock
from sandboxes.backend import Backend
from sandboxes.progress import Progress, silent

from .config import Config, load
from .loop import TrainSummary, train_in
from .run import TrainingRun


@dataclass(frozen=True)
class Library:
    """A real library, and how many tasks to make of it."""

    name: str
    source: str
    tasks: int


LIBRARIES = (
    Library("inflection", "pypi:inflection==0.5.1", 48),
    Library("flatten-dict", "pypi:flatten-dict==0.5.0", 48),
)
SEED = 0


class DemoError(Exception):
    """A stage of the demo failed. One sentence."""


def run_demo(
    out: Path,
    config: Path,
    *,
    tasks: Path,
    backend: Backend,
    libraries: tuple[Library, ...] = LIBRARIES,
    overrides: tuple[str, ...] = (),
    progress: Progress = silent,
) -> dict[str, Any]:
    """Run the demo in the new run folder `out`; task sets already in `tasks` are reused.

    Returns the contents of `out/summary.json`. Raises the errors of its stages, each with one line.
    """
    started = time.monotonic()
    sets = [_registered(library, tasks, backend, progress) for library in libraries]
    folders = json.dumps([str(taskset.folder) for taskset in sets])
    settings = load(
        config,
        [f"tasks.sets={folders}", f"sandbox.backend={backend.name}", "eval.untrained=true", *overrides],
    )
    run = TrainingRun.begin(out, settings)
    oracle = _oracle(run, sets, settings, backend, progress)
    trained = train_in(run, progress=progress)
    summary = _summary(run, sets, backend, oracle, trained) | {
        "wall_s": round(time.monotonic() - started, 1),
        "report": str(out / "report.html"),
    }
    run.write_summary(summary)
    write_report(out)
    return summary


def _registered(library: Library, tasks: Path, backend: Backend, progress: Progress) -> TaskSet:
    """Return the library's task set, registered now or earlier. Raises `DemoError` for a changed set."""
    folder = tasks / library.name
    if not folder.exists():
        settings = RegisterSettings(out=folder, limit=library.tasks, backend=backend, progress=progress)
        register_inject(library.source, settings, seed=SEED)
    taskset = load_taskset(folder)
    changed = verify_lock(taskset)
    if changed:
        raise DemoError(f"{folder}: {changed[0]}; remove the folder to register it anew")
    return taskset


def _oracle(
    run: TrainingRun, sets: list[TaskSet], settings: Config, backend: Backend, progress: Progress
) -> EvalSummary:
    """Solve every held-out task with its reference patch, through the policy's tools."""

    def shown(what: str, done: int, total: int) -> None:
        progress(f"oracle, {what}", done, total)

    summary = evaluate(
        OraclePolicy(),
        sets,
        EvalSettings(
            run.path / "evals" / "oracle",
            split=settings.tasks.heldout,
            concurrency=settings.sandbox.concurrency,
        ),
        backend=backend,
        progress=shown,
    )
    if summary.pass_rate != 1.0:
        raise DemoError(
            f"the oracle solved {summary.resolved} of {summary.scored} held-out tasks, so the tasks are not "
            f"sound; see {run.path / 'evals' / 'oracle'}"
        )
    return summary


def _summary(
    run: TrainingRun, sets: list[TaskSet], backend: Backend, oracle: EvalSummary, trained: TrainSummary
) -> dict[str, Any]:
    return {
        "tasks": sum(len(taskset.tasks) for taskset in sets),
        "heldout": oracle.tasks,
        "sandbox": backend.name,
        "engine": read_manifest(run.path)["versions"].get("vllm", "none"),
        "oracle_pass_rate": oracle.pass_rate,
        "pass_rate_before": _untrained(run),
        "pass_rate_warm": trained.heldout_first,
        "pass_rate_after": trained.heldout_last,
        "train_steps": trained.steps,
        "episodes": trained.episodes,
    }


def _untrained(run: TrainingRun) -> float | None:
    rows = [row for row in run.metrics() if row.get("phase") == "untrained"]
    return rows[0]["heldout_pass_rate"] if rows else None
