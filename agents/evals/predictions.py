"""What a run's policies changed, as SWE-bench predictions: what its harness, and others like it, grade.

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
    """What was written, for people and programs."""

    out: Path
    tasks: int
    repeated: int
    """Episodes of tasks that had one already: a file of predictions holds one for each, the first."""
    unscored: int
    """Episodes that were not graded, which say nothing of the policy."""


def write_predictions(trajectories: Path, out: Path, *, model: str = "") -> Predictions:
    """Write the patch of each task's first scored episode; `model` replaces the policy's name.

    Raises PredictionsError when there is none or `out` exists, StoreError when one cannot be read.
    """
    if out.exists():
        raise PredictionsError(f"{out} exists already; choose another place or remove it")
    rows: dict[str, dict[str, str]] = {}
    repeated = unscored = 0
    for each in TrajectoryStore(trajectories).read():
        if each.reward is None:
            unscored += 1
        elif each.task_id in rows:
            repeated += 1
        else:
            rows[each.task_id] = {
                "instance_id": each.task_id,
                "model_name_or_path": model or each.policy,
                "model_patch": each.patch,
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
