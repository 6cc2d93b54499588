"""Checkpoints: weights, optimiser, random state, task sampler and step, from which a run continues.

    step-000012/
        state.json     the loop (`LoopState`): step, weight version, task sampler, seconds
        model/         a complete model folder, for vLLM or transformers
        reference/     the policy at the start of RL, with `rl.kl` above 0 only
        learner.pt     phase, weight version, optimiser and random state

`RunFolder.checkpoint` writes the folder atomically and removes old ones; this module knows its contents.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..run import TrainingRun

STATE = "state.json"


class CheckpointError(Exception):
    """A checkpoint cannot be read. One sentence."""


class Saves(Protocol):
    """The methods of a learner that checkpoints call."""

    def save(self, folder: Path) -> None:
        """Write the complete state, from which `restore` continues exactly."""
        ...

    def restore(self, folder: Path) -> None:
        """Load the state that `save` wrote."""
        ...


@dataclass(frozen=True)
class LoopState:
    """The loop's own part of a checkpoint."""

    step: int
    """Completed RL steps."""
    version: int = 0
    """Version of the weights."""
    sampler: dict[str, Any] = field(default_factory=dict)
    """State of the task sampler."""
    seconds: float = 0.0
    """Seconds of sampling and updates so far, over all processes of this run; limited by `rl.minutes`."""


def save_checkpoint(run: TrainingRun, learner: Saves, state: LoopState) -> None:
    """Write the checkpoint of `state.step`, unless that step has a checkpoint."""
    if any(step == state.step for step, _ in run.checkpoints()):
        return
    with run.checkpoint(state.step, keep=run.config.checkpoint.keep) as folder:
        learner.save(folder)
        (folder / STATE).write_text(json.dumps(asdict(state), indent=1), encoding="utf-8")


def latest_checkpoint(run: TrainingRun) -> tuple[Path, LoopState] | None:
    """Find the newest checkpoint. Raises `CheckpointError` when it cannot be read."""
    found = run.checkpoints()
    if not found:
        return None
    _, folder = found[-1]
    try:
        return folder, LoopState(**json.loads((folder / STATE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{folder}: the checkpoint cannot be read ({error}); remove it to continue from the one before"
        ) from None
