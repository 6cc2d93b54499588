"""Supervised fine-tuning (SFT) on stored episodes, before RL.

Only action tokens enter the loss. Episodes played without tokens (by scripts) are transcribed first. Drills
(`trainer.data.drills`) can be mixed in for a policy trained from nothing, which needs more samples than a few
hundred episodes.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from agents.chat import ChatCodec
from agents.types import Trajectory
from envs.tools.base import ToolSpec
from envs.types import Task
from sandboxes.progress import Progress, silent

from ..config import Sft
from ..data.drills import Drill
from ..data.samples import Sample, from_trajectory, from_transcript, shortened

COPYING_ENDS = 0.5
"""Share of SFT with copy drills; a policy that cannot copy by then gains little from more of them."""


class Steps(Protocol):
    """The learner methods that SFT calls."""

    def step(self, samples: Sequence[Sample], loss: str, progress: float) -> dict[str, float]:
        """Make one optimiser step."""
        ...


@dataclass(frozen=True)
class SftSummary:
    """Result of SFT; stored as `warm_start.json` in the run folder."""

    samples: int
    """Number of distinct episodes, drills excluded."""
    steps: int
    tokens: int
    seconds: float
    first_nll: float
    """Mean negative log-likelihood per action token (nats) at the first step."""
    last_nll: float
    stopped_by: str
    """The limit that ended SFT: `epochs` or `minutes`."""


def sft_samples(
    trajectories: Iterable[Trajectory],
    tasks: Mapping[str, Task],
    codec: ChatCodec,
    tools: Sequence[ToolSpec],
    *,
    limit: int,
    only_passed: bool = True,
) -> list[Sample]:
    """Convert stored episodes to samples of at most `limit` ids.

    Episodes without tokens are transcribed in the codec's dialect. Left out are episodes that the dialect
    cannot express, whose task is unknown, or that did not pass (with `only_passed`).
    """
    samples: list[Sample] = []
    for trajectory in trajectories:
        if only_passed and trajectory.reward != 1.0:
            continue
        sample = from_trajectory(trajectory) or _transcribed(trajectory, tasks, codec, tools)
        sample = shortened(sample, limit) if sample is not None else None
        if sample is not None:
            samples.append(sample)
    return samples


def _transcribed(
    trajectory: Trajectory, tasks: Mapping[str, Task], codec: ChatCodec, tools: Sequence[ToolSpec]
) -> Sample | None:
    task = tasks.get(trajectory.task_id)
    if task is None or not any(turn.action.calls for turn in trajectory.turns):
        return None
    try:
        ids, sampled = codec.transcribe(task.instruction, tools, trajectory.turns)
    except ValueError:  # the dialect has no way to write one of the values
        return None
    return from_transcript(ids, sampled, trajectory.id)


def supervise(
    learner: Steps,
    samples: Sequence[Sample],
    settings: Sft,
    *,
    seed: int = 0,
    copying: Drill | None = None,
    repairing: Drill | None = None,
    stopped: Callable[[], bool] = lambda: False,
    progress: Progress = silent,
) -> SftSummary:
    """Learn from samples for `epochs` over them or `minutes`, whichever ends first."""
    assert samples, "SFT needs at least one sample"
    chance = random.Random(f"warm start {seed}")  # the seed's name stays, for the same order of samples
    start, limit_s = time.monotonic(), settings.minutes * 60
    wanted = settings.epochs * len(samples)
    pool = _endless(samples, chance)
    seen = steps = tokens = 0
    first = last = float("nan")
    done = 0.0
    while done < 1.0 and not stopped():
        drills = _drills(settings, copying if done < COPYING_ENDS else None, repairing)
        batch, real = _next_batch(pool, drills, settings.batch_tokens, chance)
        metrics = learner.step(batch, "nll", done)
        seen, steps = seen + real, steps + 1
        tokens += sum(len(sample.ids) for sample in batch)
        last = metrics["nll"]
        first = last if steps == 1 else first
        done = max((time.monotonic() - start) / limit_s, seen / wanted)
        progress("SFT", min(1000, round(1000 * done)), 1000)
    return SftSummary(
        samples=len(samples),
        steps=steps,
        tokens=tokens,
        seconds=time.monotonic() - start,
        first_nll=first,
        last_nll=last,
        stopped_by="epochs" if seen >= wanted else "minutes",
    )


def _endless(samples: Sequence[Sample], chance: random.Random) -> Iterator[Sample]:
    """Every sample once, in an order drawn anew each time."""
    while True:
        yield from chance.sample(samples, len(samples))


def _drills(settings: Sft, copying: Drill | None, repairing: Drill | None) -> list[tuple[float, Drill]]:
    """The exercises of this part of the phase, each with its share of the samples."""
    wanted = ((settings.copy_drills, copying), (settings.repair_drills, repairing))
    return [(share, drill) for share, drill in wanted if drill is not None and share > 0]


def _next_batch(
    pool: Iterator[Sample], drills: Sequence[tuple[float, Drill]], tokens: int, chance: random.Random
) -> tuple[list[Sample], int]:
    """Fill a batch up to its tokens; returns the batch and how many of its rows are real episodes."""
    batch: list[Sample] = []
    real = size = 0
    makers = [None, *(drill for _, drill in drills)]
    shares = [1 - sum(share for share, _ in drills), *(share for share, _ in drills)]
    while size < tokens:
        drill = chance.choices(makers, shares)[0]
        sample = next(pool) if drill is None else drill(chance)
        real += drill is None
        size += len(sample.ids)
        batch.append(sample)
    return batch, real
