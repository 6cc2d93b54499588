"""Patches of a run as SWE-bench predictions, the input of the SWE-bench harness.

One JSON object a line: `instance_id`, `model_name_or_path`, `model_patch`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from sandboxes.files import write_whole

from ..runs.store import TrajectoryStore


class PredictionsError(Exception):
    """No predictions can be written. Takes one sentence."""


@dataclass(frozen=True)
class Predictions:
    """Result of `write_predictions`."""

    out: Path
    tasks: int
    repeated: int
    """Later episodes of a task: a predictions file holds one patch per task, the first."""
    unscored: int
    """Episodes without a verdict; they are left out."""


def write_predictions(trajectories: Path, out: Path, *, model: str = "") -> Predictions:
    """Write the patch of each task's first scored episode; `model` replaces the policy's name.

    Raises PredictionsError without a scored episode or when `out` exists, StoreError for an unreadable one.
    """
    if out.exists():
        raise PredictionsError(f"{out} exists already; choose another place or remove it")
    rows: dict[str, dict[str, str]] = {}
    repeated = unscored = 0
    for trajectory in TrajectoryStore(trajectories).read():
        if trajectory.reward is None:
            unscored += 1
        elif trajectory.task_id in rows:
            repeated += 1
        else:
            rows[trajectory.task_id] = {
                "instance_id": trajectory.task_id,
                "model_name_or_path": model or trajectory.policy,
                "model_patch": trajectory.patch,
            }
    if not rows:
        raise PredictionsError(f"{trajectories} holds no scored episode")
    _write(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows.values()))
    return Predictions(out, len(rows), repeated, unscored)


def _write(out: Path, text: str) -> None:
    """Write the file whole. Raises PredictionsError."""
    try:
        write_whole(out, text.encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise PredictionsError(f"{out} cannot be written: {error.strerror or error}") from error
