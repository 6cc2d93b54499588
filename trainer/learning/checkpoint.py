"""What is kept of a run to continue from: weights, optimiser, schedule, random state, sampler, step.

    step-000012/
        state.json     the loop: step, phase, weight version, task sampler, seconds
        model/         a model folder of its own, for vLLM or transformers
        learner.pt     the optimiser and the random state

`TrainingRun.checkpoint` makes such a folder appear whole or not at all, finds the newest by looking, and
removes old ones; here is only what is in it.
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
    """What is needed of a learner here."""

    def save(self, folder: Path) -> None:
        """Write everything needed to go on exactly."""
        ...

    def restore(self, folder: Path) -> None:
        """Go on from what `save` wrote."""
        ...


@dataclass(frozen=True)
class LoopState:
    """The loop's own part of a checkpoint."""

    step: int
    """Steps of reinforcement that are done."""
    version: int = 0
    """Of the weights."""
    sampler: dict[str, Any] = field(default_factory=dict)
    """State of the task sampler."""
    seconds: float = 0.0
    """Wall time of all processes that worked on this run so far."""


def save_checkpoint(run: TrainingRun, learner: Saves, state: LoopState) -> None:
    """Write a checkpoint of `state.step`; one that is there already is left alone."""
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
