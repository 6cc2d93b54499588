"""Agent types: completions, actions, turns, trajectories, and the policy protocol.

For each episode a policy starts a `Session`. The rollout loop (`agents.rollout`) asks the session to act and
shows it the observations. Policies that sample tokens keep the conversation as append-only ids; policies
without tokens (scripts, remote chat endpoints) leave the token fields empty.
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
    """Sampled tokens with behaviour log-probabilities (nats, at the sampling temperature).

    Two tokens of one weight version: `Completion((17, 2), (-0.3, -0.01), (VersionSpan(4, 0, 2),))`
    """

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
    """The decoded completion."""
    prompt_ids: tuple[int, ...] = ()
    """Ids appended to the conversation since the last action."""
    completion: Completion = field(default_factory=Completion)
    error: str = ""
    """Why no call could be parsed; shown to the policy as a corrective observation."""


@dataclass(frozen=True)
class Turn:
    """One action and its observations: the tokens and texts that this turn added to the conversation."""

    action: Action
    observations: tuple[Observation, ...]
    generated_s: float
    """Seconds spent in the policy."""
    acted_s: float
    """Seconds spent in the tools."""


@dataclass(frozen=True)
class Trajectory:
    """One episode: tokens, calls, observations, times, and the verdict."""

    id: str
    task_id: str
    task_hash: str
    group: str
    """Name of the group: trajectories of one task whose rewards are compared with each other."""
    policy: str
    seed: int
    turns: tuple[Turn, ...]
    stop: StopReason
    reward: float | None
    """None exactly for an unscored episode."""
    verdict: Verdict | None = None
    patch: str = ""
    """Unified diff of the policy's changes, as graded."""
    error: str = ""
    duration_s: float = 0.0
    schema: int = 1
    branch_of: str | None = None
    """Id of the episode that this one branched from; branches of one episode share it. None: no branch.

    An episode that was played only up to its branches has an id and no trajectory of its own.
    """
    branch_after: int = 0
    """Number of leading turns shared with `branch_of`."""

    def __post_init__(self) -> None:
        assert (self.reward is None) == (self.verdict is None), "scored exactly when there is a verdict"
        assert (self.stop is StopReason.INFRA) <= (self.reward is None), "INFRA is never scored"
        assert self.branch_after <= (len(self.turns) if self.branch_of else 0), "shared turns are its own"


class Session(Protocol):
    """A policy's conversation in one episode; not a session of pytest or of Ray."""

    def act(self, *, deadline: float) -> Action | StopReason:
        """Return the next action, or the reason that ends the episode (MAX_TOKENS).

        `deadline` is a `time.monotonic()` value. Raises `PolicyError` when the policy itself fails.
        """
        ...

    def observe(self, observations: Sequence[Observation]) -> None:
        """Receive the observations of the last action's calls, in their order."""
        ...

    def fork(self, *, seed: int) -> Session:
        """Return an independent copy of the session; `seed` decides its samples."""
        ...


class Policy(Protocol):
    """Works on tasks. Thread-safe: concurrent episodes share one policy."""

    name: str

    def start(self, task: Task, tools: Sequence[ToolSpec], first: Observation, *, seed: int) -> Session:
        """Open a session for one episode; `first` is the observation of reset."""
        ...

    def close(self) -> None:
        """Release the policy's resources. Safe to call twice."""
        ...
