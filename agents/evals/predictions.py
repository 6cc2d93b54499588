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
    """Further episodes of a task: a predictions file holds one patch per task, that of the lowest seed."""
    unscored: int
    """Episodes without a verdict; they are left out."""
    unread: int
    """Lines that cannot be read; they are left out, and each is logged."""


def write_predictions(trajectories: Path, out: Path, *, model: str = "") -> Predictions:
    """Write the patch of each task's scored episode with the lowest seed; `model` replaces the policy's name.

    The order of storing is that of finishing, which favours quick episodes and differs from run to run.
    Raises PredictionsError without a scored episode or when `out` exists.
    """
    if out.exists():
        raise PredictionsError(f"{out} exists already; choose another place or remove it")
    chosen: dict[str, tuple[int, dict[str, str]]] = {}
    repeated, unscored, unread = 0, 0, list[str]()
    for trajectory in TrajectoryStore(trajectories).read(unread):
        if trajectory.reward is None:
            unscored += 1
            continue
        known = chosen.get(trajectory.task_id)
        repeated += known is not None
        if known is None or trajectory.seed < known[0]:
            row = {
                "instance_id": trajectory.task_id,
                "model_name_or_path": model or trajectory.policy,
                "model_patch": trajectory.patch,
            }
            chosen[trajectory.task_id] = trajectory.seed, row
    if not chosen:
        found = f"; {len(unread)} lines cannot be read, the first: {unread[0]}" if unread else ""
        raise PredictionsError(f"{trajectories} holds no scored episode{found}")
    rows = (row for _, row in chosen.values())
    _write(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return Predictions(out, len(chosen), repeated, unscored, len(unread))


def _write(out: Path, text: str) -> None:
    """Write the file whole. Raises PredictionsError."""
    try:
        write_whole(out, text.encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise PredictionsError(f"{out} cannot be written: {error.strerror or error}") from error
