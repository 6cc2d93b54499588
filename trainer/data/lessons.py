"""Lessons: endless episodes of scripted teachers on practice repositories, as SFT samples.

Every lesson is about a repository drawn anew, played in memory by the environment's own tools. Lesson number
n of a seed is the same on every machine. Reward comes from real test runs only; lessons are for SFT.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from agents.chat import ChatCodec
from agents.policies.teacher import TeacherPolicy
from agents.rollout import run_episode
from agents.types import Trajectory, Turn
from envs.register.practice.playing import MemoryEnv, MemoryTaskSet
from envs.register.practice.repository import draw_repository
from envs.tools.base import ToolSpec

from .samples import Sample, from_transcript

FAMILIES: Mapping[str, float] = {"code": 0.2, "test": 0.2, "pr": 0.25, "two": 0.25, "alias": 0.1}
"""Shares of the families of bugs: more tasks with two bugs than in a task set, since a small model copies the
second name of an instruction last."""
TEACHER, DRILL = TeacherPolicy(), TeacherPolicy(drill=True)


def teach(seed: int, number: int, *, drill: bool = False, split: str = "train") -> tuple[str, Trajectory]:
    """Play lesson `number`; returns the instruction and the trajectory, failures included."""
    name = f"lesson-{seed}-{number}"
    taskset = MemoryTaskSet.of(draw_repository(name, split, issues=1, families=FAMILIES), name, split)
    task = taskset.tasks[0]
    return task.instruction, run_episode(
        MemoryEnv(taskset), DRILL if drill else TEACHER, task=task, seed=number
    )


@dataclass(frozen=True)
class Lessons:
    """Teaches a codec's dialect; samples have at most `limit` ids."""

    codec: ChatCodec
    tools: Sequence[ToolSpec]
    limit: int
    seed: int = 0

    def sample(self, number: int, *, drill: bool = False, observations: float = 0.0) -> Sample | None:
        """Return lesson `number`; None for one that is too long.

        The advantages are the weights of the loss: 1 for actions, `observations` for everything that is read.
        """
        instruction, trajectory = teach(self.seed, number, drill=drill)
        slips = _slips(instruction, trajectory.turns)
        ids, taught = self.codec.transcribe(
            instruction, self.tools, trajectory.turns, taught=lambda turn: id(turn) not in slips
        )
        if len(ids) > self.limit:
            return None
        if not observations:
            return from_transcript(ids, taught, trajectory.id)
        _, acted = self.codec.transcribe(instruction, self.tools, trajectory.turns)
        read = ~np.array(acted)
        read[0] = False  # nothing comes before the first id
        weights = np.where(read, observations, 1.0)
        return Sample.of(ids, read | np.array(taught), advantages=weights, trajectory=trajectory.id)


def _slips(instruction: str, turns: Sequence[Turn]) -> set[int]:
    """Ids of turns that are there to be seen and recovered from, not to be imitated.

    These are refused calls, and searches for names that nothing has mentioned.
    """
    slips, seen = set[int](), instruction
    for turn in turns:
        (call,) = turn.action.calls
        names = [call.arguments[key] for key in ("query", "search") if key in call.arguments]
        if turn.observations[0].is_error or any(str(name) not in seen for name in names):
            slips.add(id(turn))
        seen += turn.observations[0].text
    return slips


def lesson_text(seed: int, lessons: int) -> Iterator[str]:
    """Yield the text of lessons, to train a tokenizer on."""
    for number in range(lessons):
        instruction, trajectory = teach(seed, number)
        yield instruction
        for turn in trajectory.turns:
            values = [str(value) for call in turn.action.calls for value in call.arguments.values()]
            yield "\n".join([*values, *(seen.text for seen in turn.observations)])
