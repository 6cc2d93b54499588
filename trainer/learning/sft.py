"""Supervised fine-tuning (SFT) before RL: on stored episodes, or on lessons.

Only action tokens enter the loss. Episodes played without tokens (by scripts) are transcribed first. Stored
episodes are repeated for some epochs; lessons (`trainer.data.lessons`) are new to the end, which a policy
trained from nothing needs.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from agents.chat import ChatCodec
from agents.types import Trajectory
from envs.tools.base import ToolSpec
from envs.types import Task
from sandboxes.progress import Progress, silent

from ..config import Sft
from ..data.lessons import Lessons
from ..data.samples import Sample, from_trajectory, from_transcript, shortened

Batches = Iterator[tuple[list[Sample], float]]
"""Batches, each with the share of all batches that is done once this one is learned."""
LOSS = "trainer.algorithms.losses:weighted_nll"
OBSERVATIONS_END = 0.7
"""Share of the lessons' tokens in which observations count; in the last part only actions do."""
DRILLS_END = 0.5
"""Share of the lessons' tokens with drills among them; a policy that cannot copy by then gains little from
more.
"""


class Steps(Protocol):
    """The learner methods that SFT calls."""

    def step(self, samples: Sequence[Sample], loss: str, progress: float) -> dict[str, float]:
        """Make one optimiser step."""
        ...


@dataclass(frozen=True)
class SftSummary:
    """Result of SFT; stored as `warm_start.json` in the run folder."""

    samples: int
    """Number of distinct episodes."""
    steps: int
    tokens: int
    seconds: float
    first_nll: float
    """Mean negative log-likelihood per action token (nats) at the first step."""
    last_nll: float
    stopped_by: str
    """What ended SFT: `epochs` or `tokens` when all was learned, else `minutes`."""


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


def replayed(samples: Sequence[Sample], settings: Sft, *, seed: int = 0) -> Batches:
    """Yield batches of `batch_tokens`: every sample once an epoch, in an order drawn anew each time."""
    assert samples, "SFT needs at least one sample"
    chance = random.Random(f"warm start {seed}")  # the seed's name stays, for the same order of samples
    wanted = settings.epochs * len(samples)
    order, seen = list[Sample](), 0
    while seen < wanted:
        batch: list[Sample] = []
        while sum(len(sample.ids) for sample in batch) < settings.batch_tokens:
            order = order or chance.sample(samples, len(samples))
            batch.append(order.pop(0))
        seen += len(batch)
        yield batch, seen / wanted


def taught(lessons: Lessons, settings: Sft) -> Batches:
    """Yield batches of new lessons, up to `settings.lessons` tokens; in the first half some are drills."""
    tokens = number = 0
    while tokens < settings.lessons:
        batch: list[Sample] = []
        drills = settings.drills if tokens < DRILLS_END * settings.lessons else 0.0
        observations = settings.observations if tokens < OBSERVATIONS_END * settings.lessons else 0.0
        while sum(len(sample.ids) for sample in batch) < settings.batch_tokens:
            drill = random.Random(f"drill {number}").random() < drills
            sample = lessons.sample(number, drill=drill, observations=observations)
            number += 1
            if sample is not None:
                batch.append(sample)
        tokens += sum(len(sample.ids) for sample in batch)
        yield batch, tokens / settings.lessons


def supervise(
    learner: Steps,
    batches: Batches,
    settings: Sft,
    *,
    stopped: Callable[[], bool] = lambda: False,
    progress: Progress = silent,
) -> SftSummary:
    """Learn from batches until there are no more or `settings.minutes` are over."""
    start, limit_s = time.monotonic(), settings.minutes * 60
    episodes: set[str] = set()
    steps = tokens = 0
    first = last = float("nan")
    share = done = 0.0
    for batch, share in _ahead(batches):
        metrics = learner.step(batch, LOSS, done)
        steps += 1
        tokens += sum(len(sample.ids) for sample in batch)
        episodes.update(sample.trajectory for sample in batch)
        last = metrics["nll"]
        first = last if steps == 1 else first
        done = max((time.monotonic() - start) / limit_s, share)
        progress("SFT", min(1000, round(1000 * done)), 1000)
        if done >= 1.0 or stopped():
            break
    assert steps, "SFT needs at least one sample"
    finished = "tokens" if settings.lessons else "epochs"
    return SftSummary(
        samples=len(episodes),
        steps=steps,
        tokens=tokens,
        seconds=time.monotonic() - start,
        first_nll=first,
        last_nll=last,
        stopped_by=finished if share >= 1.0 else "minutes",
    )


def _ahead(batches: Batches) -> Batches:
    """Yield the same batches; the next one is made in a thread while the learner works on the last one."""
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
        following = thread.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = thread.submit(next, batches, None)
            yield batch
