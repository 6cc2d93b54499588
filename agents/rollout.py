"""The rollout loop: one environment, one policy, one trajectory; or several that branch from shared turns.

Plain blocking code in one thread. The environment ends an episode when the policy submits or reaches the turn
limit. The loop ends an episode at its time limit, at its token limit, or after too many format errors in a
row. Both ends lead to the same grading. A failure of the sandbox or the policy skips grading: the trajectory
is unscored (reward None), which differs from a reward of 0.
"""

from __future__ import annotations

import copy
import math
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, cast

from pydantic import TypeAdapter

from envs.tools.base import ToolSpec
from envs.types import Observation, StopReason, Task, ToolCall
from sandboxes.base import SandboxError

from .types import Action, Policy, PolicyError, Session, Trajectory, Turn

_STORABLE = TypeAdapter(tuple[str, str, tuple[ToolCall, ...]])
Outcome = tuple[Observation, float, bool, bool, dict[str, Any]]


class TaskEnv(Protocol):
    """The environment methods that the loop calls (`envs.coding.CodingEnv`).

    The `info` of an episode's last step holds `stop`, `verdict` and `patch`.
    """

    @property
    def tools(self) -> Sequence[ToolSpec]:
        """The tools that the policy may call."""
        ...

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode of the task with the id `options["task"]`."""
        ...

    def step(self, action: ToolCall, /) -> Outcome:
        """Make one call."""
        ...

    def finish(self, reason: StopReason) -> Outcome:
        """End the episode for a limit that the loop enforces, and grade it."""
        ...

    def close(self) -> None:
        """Release all resources. Idempotent; may be called while another thread is in a method."""
        ...


class ForkableEnv(TaskEnv, Protocol):
    """An environment whose running episode can branch."""

    def fork(self, count: int) -> Sequence[ForkableEnv]:
        """Return `count` environments with a copy of this one's state; this environment stays usable."""
        ...


class Episode:
    """A running episode: an environment and a policy session that alternate."""

    def __init__(
        self,
        env: TaskEnv,
        policy: Policy,
        *,
        task: Task,
        seed: int,
        group: str = "",
        max_format_errors: int = 3,
    ) -> None:
        """Store the arguments; the episode starts with `play`."""
        self._env, self._policy, self._task, self._seed, self._group = env, policy, task, seed, group
        self._patience = max_format_errors
        self._id = uuid.uuid4().hex
        self._branch_of: str | None = None
        self._branch_after = 0
        self._started = time.monotonic()
        self._turns: list[Turn] = []
        self._session: Session | None = None
        self._deadline = float("inf")
        self._errors_in_a_row = 0

    def play(self, *, until: int | None = None) -> Trajectory | None:
        """Play to the end and return the trajectory, or play `until` turns and return None."""
        try:
            ending = self._play(until)
        except (SandboxError, PolicyError) as failure:
            return self.lost(failure)
        return None if ending is None else self._over(ending)

    def lost(self, failure: SandboxError | PolicyError) -> Trajectory:
        """Return the unscored trajectory of an episode that the sandbox or the policy's engine lost."""
        return self._over({"stop": StopReason.INFRA}, f"{type(failure).__name__}: {failure}")

    def fork(self, seeds: Sequence[int]) -> list[Episode]:
        """Branch after the turns played so far: one episode per seed, each in a sandbox of its own.

        A branch shares the conversation, the turn count, the deadline and the current files; its seed decides
        the later samples. Raises SandboxError.
        """
        assert self._session is not None, "play some turns first"
        session, env = self._session, cast(ForkableEnv, self._env)
        branches: list[Episode] = []
        for seed, own in zip(seeds, env.fork(len(seeds)), strict=True):
            branch = copy.copy(self)
            branch._env, branch._seed = own, seed
            branch._id, branch._branch_of = uuid.uuid4().hex, self._id
            branch._branch_after = len(self._turns)
            branch._turns = list(self._turns)
            branch._session = session.fork(seed=seed)
            branches.append(branch)
        return branches

    def close(self) -> None:
        """Close the environment of an unused branch."""
        self._env.close()

    def _play(self, until: int | None) -> dict[str, Any] | None:
        """Play and record turns; return the last step's info."""
        if self._session is None:
            first, _ = self._env.reset(seed=self._seed, options={"task": self._task.id})
            self._session = self._policy.start(self._task, self._env.tools, first, seed=self._seed)
            self._deadline = time.monotonic() + self._task.limits.episode_s
        while until is None or len(self._turns) < until:
            asked = time.monotonic()
            late = asked >= self._deadline
            action = StopReason.TIME if late else self._session.act(deadline=self._deadline)
            if isinstance(action, StopReason):
                return self._env.finish(action)[-1]
            _refuse_unstorable(action)
            answered = time.monotonic()
            observations, over, info = _act(self._env, action)
            acted_s = time.monotonic() - answered
            self._turns.append(Turn(action, observations, answered - asked, acted_s))
            if over:
                return info
            self._errors_in_a_row = self._errors_in_a_row + 1 if action.error else 0
            if self._errors_in_a_row == self._patience:
                return self._env.finish(StopReason.FORMAT)[-1]
            self._session.observe(observations)
        return None

    def _over(self, ending: dict[str, Any], error: str = "") -> Trajectory:
        verdict = ending.get("verdict")
        return Trajectory(
            id=self._id,
            task_id=self._task.id,
            task_hash=self._task.hash,
            group=self._group,
            policy=self._policy.name,
            seed=self._seed,
            turns=tuple(self._turns),
            stop=ending["stop"],
            reward=None if verdict is None else verdict.reward,
            verdict=verdict,
            patch=ending.get("patch", ""),
            error=error,
            duration_s=time.monotonic() - self._started,
            branch_of=self._branch_of,
            branch_after=self._branch_after,
        )


def run_episode(
    env: TaskEnv, policy: Policy, *, task: Task, seed: int, group: str = "", max_format_errors: int = 3
) -> Trajectory:
    """Play one episode of a policy on a task and return its trajectory."""
    episode = Episode(env, policy, task=task, seed=seed, group=group, max_format_errors=max_format_errors)
    trajectory = episode.play()
    assert trajectory is not None, "it was played to its end"
    return trajectory


def run_branches(
    env: ForkableEnv,
    policy: Policy,
    *,
    task: Task,
    seed: int,
    after: int,
    seeds: Sequence[int],
    group: str = "",
) -> list[Trajectory]:
    """Play `after` turns once, then one branch per seed to its end, all branches at the same time.

    The trajectories share their first turns, and name the same `branch_of`. An episode that ends before it
    branches is the only one, and no branch.
    """
    trunk = Episode(env, policy, task=task, seed=seed, group=group)
    ended = trunk.play(until=after)
    if ended is not None:
        return [ended]
    try:
        branches = trunk.fork(seeds)
    except SandboxError as failure:
        return [trunk.lost(failure)]
    finally:
        trunk.close()
    try:
        with ThreadPoolExecutor(len(branches), thread_name_prefix="branch") as threads:
            played = list(threads.map(lambda branch: branch.play(), branches))
    finally:
        for branch in branches:
            branch.close()
    return [trajectory for trajectory in played if trajectory is not None]


def _refuse_unstorable(action: Action) -> None:
    """Raise PolicyError for an action that could not be stored and read back as it is."""
    if not all(map(math.isfinite, action.completion.logprobs)):
        raise PolicyError("the engine gave a log-probability that is not a finite number")
    try:
        _STORABLE.dump_json((action.text, action.error, action.calls))
    except ValueError as error:
        raise PolicyError(f"the policy's answer cannot be stored: {error}") from error


def _act(env: TaskEnv, action: Action) -> tuple[tuple[Observation, ...], bool, dict[str, Any]]:
    """Make an action's calls; an unparsable action gets a corrective observation and no call."""
    if action.error:
        return (Observation(action.error, is_error=True),), False, {}
    observations: list[Observation] = []
    over, info = False, dict[str, Any]()
    for call in action.calls:
        observation, _, terminated, truncated, info = env.step(call)
        observations.append(observation)
        over = terminated or truncated
        if over:
            break
    return tuple(observations), over, info
