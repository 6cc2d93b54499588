"""Supervised warm start: learn to act like stored episodes before learning from reward.

Only actions are learned, never observations. Episodes played without tokens (by scripts) are written down as
tokens first. Copy drills can be mixed in: episodes made of nothing but looking and copying, which is what
a small model learns last and needs first.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from agents.chat import ChatCodec
from agents.types import Action, Trajectory, Turn
from envs.tools import ToolSpec
from envs.types import Observation, Task, ToolCall
from sandboxes.progress import Progress, silent

from .config import WarmStart
from .samples import Sample, from_trajectory, from_transcript, shortened

Drill = Callable[[random.Random], Sample]
"""Makes a fresh exercise."""

DRILL_SHARE = 0.5
"""Drills are mixed in over the first half; afterwards only real episodes are learned from."""


class Supervised(Protocol):
    """What is needed of a learner here."""

    def supervise(self, samples: Sequence[Sample], *, done: float = 0.0) -> dict[str, float]:
        """Make one step of supervised learning."""
        ...


@dataclass(frozen=True)
class WarmStartSummary:
    """How it went."""

    samples: int
    """Different episodes that were learned from, drills not counted."""
    steps: int
    tokens: int
    seconds: float
    first_nll: float
    """Mean negative log-likelihood per action token (nats) at the first step."""
    last_nll: float
    stopped_by: str
    """`epochs` or `minutes`, whichever came first."""


def warm_samples(
    trajectories: Iterable[Trajectory],
    tasks: Mapping[str, Task],
    codec: ChatCodec,
    tools: Sequence[ToolSpec],
    *,
    limit: int,
    only_passed: bool = True,
) -> list[Sample]:
    """Lay stored episodes out as rows of at most `limit` ids.

    Those without tokens are written down in the codec's dialect; those that it cannot express, whose task is
    unknown, or that did not pass (with `only_passed`), are left out.
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


def warm_start(
    learner: Supervised,
    samples: Sequence[Sample],
    settings: WarmStart,
    *,
    seed: int = 0,
    drill: Drill | None = None,
    stopped: Callable[[], bool] = lambda: False,
    progress: Progress = silent,
) -> WarmStartSummary:
    """Learn from samples for `epochs` over them or `minutes`, whichever ends first."""
    assert samples, "a warm start needs at least one sample"
    chance = random.Random(f"warm start {seed}")
    start, limit_s = time.monotonic(), settings.minutes * 60
    wanted = settings.epochs * len(samples)
    pool = _endless(samples, chance)
    seen = steps = tokens = 0
    first = last = float("nan")
    done = 0.0
    while done < 1.0 and not stopped():
        drills = drill if done < DRILL_SHARE else None
        batch, real = _next_batch(pool, drills, settings, chance)
        metrics = learner.supervise(batch, done=done)
        seen, steps = seen + real, steps + 1
        tokens += sum(len(sample.ids) for sample in batch)
        last = metrics["nll"]
        first = last if steps == 1 else first
        done = max((time.monotonic() - start) / limit_s, seen / wanted)
        progress("warm start", min(1000, round(1000 * done)), 1000)
    return WarmStartSummary(
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


def _next_batch(
    pool: Iterator[Sample], drill: Drill | None, settings: WarmStart, chance: random.Random
) -> tuple[list[Sample], int]:
    """Fill a batch up to its tokens; returns it and how many of it are real episodes."""
    batch: list[Sample] = []
    real = size = 0
    while size < settings.batch_tokens:
        exercise = drill is not None and chance.random() < settings.copy_drills
        sample = drill(chance) if exercise and drill is not None else next(pool)
        real += not exercise
        size += len(sample.ids)
        batch.append(sample)
    return batch, real


def copy_drills(
    files: Mapping[str, str], codec: ChatCodec, tools: Sequence[ToolSpec], *, limit: int, lines: int = 3
) -> Drill:
    """Give exercises in copying: view part of a file, then replace each of the lines as the task says.

    What is asked is in the task, what is there is in the view, and every value of every call is a copy of one
    of them. Nothing is run: the observations are what the tools would have said.
    """
    usable = {
        path: numbered
        for path, text in sorted(files.items())
        if len(numbered := [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]) > lines
    }
    assert usable, "copy drills need at least one file with a few lines of text"

    def make(chance: random.Random) -> Sample:
        for _ in range(100):
            path = chance.choice(list(usable))
            numbered = usable[path]
            first = chance.randrange(len(numbered) - lines)
            task, turns = _exercise(path, files[path].splitlines(), numbered[first : first + lines], chance)
            try:
                ids, sampled = codec.transcribe(task, tools, turns)
            except ValueError:  # a line that the dialect cannot hold
                continue
            if len(ids) <= limit:
                return from_transcript(ids, sampled, "drill")
        raise AssertionError(f"no copy drill fits into {limit} tokens; raise policy.context_tokens")

    return make


def _exercise(
    path: str, text: Sequence[str], chosen: Sequence[tuple[int, str]], chance: random.Random
) -> tuple[str, list[Turn]]:
    wanted: list[str] = []
    start = max(1, chosen[0][0] - chance.randrange(4))
    end = min(len(text), chosen[-1][0] + chance.randrange(4))
    shown = "\n".join(f"{n}\t{text[n - 1]}" for n in range(start, end + 1))
    turns = [_turn("view", {"path": path, "start": start, "end": end}, shown)]
    for number, line in chosen:
        words = line.split()
        old, new = chance.choice(words), chance.choice(words)
        if line.count(old) != 1 or old == new:
            old, new = line.strip(), chance.choice(words)
        wanted.append(f"{path}:{number}: {old} -> {new}")
        arguments = {"path": path, "old": old, "new": new, "line": number}
        turns.append(_turn("edit", arguments, f"changed line {number} of {path}"))
    turns.append(_turn("submit", {}, "submitted"))
    return "\n".join(wanted), turns


def _turn(name: str, arguments: dict[str, str | int], shown: str) -> Turn:
    call = ToolCall("call", name, dict(arguments))
    return Turn(Action((call,)), (Observation(shown, call_id="call"),), 0.0, 0.0)
