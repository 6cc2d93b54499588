"""The types of an agent at work: completions, turns, trajectories, and the policy protocol.

For each episode a policy starts a `Session`. The rollout loop (`agents.rollout`) asks the session to act and
shows it the observations. Policies that sample tokens keep the conversation as ids that are only ever
appended; policies without tokens (scripts, remote chat endpoints) leave the token fields empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from envs.tools.base import ToolSpec
from envs.types import Observation, StopReason, Task, ToolCall, Verdict


class PolicyError(Exception):
    """The policy could not answer (engine gone, endpoint refused). The episode stays unscored."""


@dataclass(frozen=True)
class VersionSpan:
    """Weights of `version` produced the completion's tokens `start` to `end` (exclusive)."""

    version: int
    start: int
    end: int


@dataclass(frozen=True)
class Completion:
    """Sampled tokens with their behaviour log-probabilities: nats, under the distribution sampled from."""

    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    versions: tuple[VersionSpan, ...] = ()
    finish_reason: str = "stop"
    """`stop` (an end-of-turn token, which is included), `length` or `abort`."""

    def __post_init__(self) -> None:
        assert len(self.token_ids) == len(self.logprobs), "one log-probability per sampled token"
        covered = [i for span in self.versions for i in range(span.start, span.end)]
        assert covered == list(range(len(self.token_ids))), "version spans cover every token once"


@dataclass(frozen=True)
class Action:
    """A session's decision: the calls to make, and the completion they were parsed from."""

    calls: tuple[ToolCall, ...]
    text: str = ""
    """The decoded completion, for people."""
    prompt_ids: tuple[int, ...] = ()
    """Only the ids appended to the conversation since the last action."""
    completion: Completion = field(default_factory=Completion)
    error: str = ""
    """Why no call could be parsed; shown to the policy as a corrective observation."""


@dataclass(frozen=True)
class Turn:
    """One action and its observations; only the tokens and texts that this turn added."""

    action: Action
    observations: tuple[Observation, ...]
    generated_s: float
    """Seconds the policy took."""
    acted_s: float
    """Seconds the tools took."""


@dataclass(frozen=True)
class Trajectory:
    """One episode: tokens, calls, observations, times, and the verdict."""

    id: str
    task_id: str
    task_hash: str
    group: str
    """Trajectories of one task from one policy state share it."""
    policy: str
    seed: int
    turns: tuple[Turn, ...]
    stop: StopReason
    reward: float | None
    """None exactly when the episode was not scored."""
    verdict: Verdict | None = None
    patch: str = ""
    """Unified diff of what the policy changed, as it travelled to grading."""
    error: str = ""
    duration_s: float = 0.0
    schema: int = 1

    def __post_init__(self) -> None:
        assert (self.reward is None) == (self.verdict is None), "scored exactly when there is a verdict"
        assert (self.stop is StopReason.INFRA) <= (self.reward is None), "INFRA is never scored"


class Session(Protocol):
    """A policy's conversation in one episode; not a session of pytest or of Ray."""

    def act(self, *, deadline: float) -> Action | StopReason:
        """Decide what to do next, or say why this episode cannot go on (MAX_TOKENS).

        `deadline` is a `time.monotonic()` value. Raises `PolicyError` when the policy itself fails.
        """
        ...

    def observe(self, observations: Sequence[Observation]) -> None:
        """Take in what the last action's calls led to, in their order."""
        ...

    def fork(self, *, seed: int) -> Session:
        """A session with the same conversation, which goes on by itself; `seed` decides what it samples."""
        ...


class Policy(Protocol):
    """Something that can work on tasks. Shared by many episodes at once, from many threads."""

    name: str

    def start(self, task: Task, tools: Sequence[ToolSpec], first: Observation, *, seed: int) -> Session:
        """Open a session for one episode; `first` is what the environment showed at reset."""
        ...

    def close(self) -> None:
        """Release what the policy holds. Safe to call twice."""
        ...
