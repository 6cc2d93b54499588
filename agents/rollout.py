"""The loop: one environment, one policy, one trajectory.

Plain blocking code in one thread. The environment ends an episode when the policy submits or runs out of
turns; the loop ends it when time, tokens or patience run out. Both ways reach the same grading. When the
sandbox or the policy itself fails, nothing is graded: the trajectory is unscored, which is not a zero.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any, Protocol

from envs.tools import ToolSpec
from envs.types import Observation, StopReason, Task, ToolCall
from sandboxes.base import SandboxError

from .types import Action, Policy, PolicyError, Trajectory, Turn

Outcome = tuple[Observation, float, bool, bool, dict[str, Any]]


class TaskEnv(Protocol):
    """What the loop needs of an environment (`envs.coding.CodingEnv`).

    The `info` of an episode's last step holds `stop`, `verdict` and `patch`.
    """

    @property
    def tools(self) -> Sequence[ToolSpec]:
        """What the policy may call."""
        ...

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin the episode of the task whose id is `options["task"]`."""
        ...

    def step(self, action: ToolCall, /) -> Outcome:
        """Make one call."""
        ...

    def finish(self, reason: StopReason) -> Outcome:
        """End the episode for a limit the environment does not know, and grade it."""
        ...

    def close(self) -> None:
        """Release everything; safe to call twice, and while another thread is in a method."""
        ...


def run_episode(
    env: TaskEnv, policy: Policy, *, task: Task, seed: int, group: str = "", max_format_errors: int = 3
) -> Trajectory:
    """Let a policy work on a task until the episode ends, and say how it went."""
    started = time.monotonic()
    turns: list[Turn] = []
    ending: dict[str, Any] = {"stop": StopReason.INFRA}
    error = ""
    try:
        ending = _play(env, policy, turns, task=task, seed=seed, patience=max_format_errors)
    except (SandboxError, PolicyError) as failure:
        error = f"{type(failure).__name__}: {failure}"
    verdict = ending.get("verdict")
    return Trajectory(
        id=uuid.uuid4().hex,
        task_id=task.id,
        task_hash=task.hash,
        group=group,
        policy=policy.name,
        seed=seed,
        turns=tuple(turns),
        stop=ending["stop"],
        reward=None if verdict is None else verdict.reward,
        verdict=verdict,
        patch=ending.get("patch", ""),
        error=error,
        duration_s=time.monotonic() - started,
    )


def _play(
    env: TaskEnv, policy: Policy, turns: list[Turn], *, task: Task, seed: int, patience: int
) -> dict[str, Any]:
    """Take turns, noting each in `turns`, until the episode is over; return the last step's info."""
    first, _ = env.reset(seed=seed, options={"task": task.id})
    session = policy.start(task, env.tools, first, seed=seed)
    deadline = time.monotonic() + task.limits.episode_s
    errors_in_a_row = 0
    while True:
        asked = time.monotonic()
        action = session.act(deadline=deadline) if asked < deadline else StopReason.TIME
        if isinstance(action, StopReason):
            return env.finish(action)[-1]
        answered = time.monotonic()
        observations, over, info = _act(env, action)
        turns.append(Turn(action, observations, answered - asked, time.monotonic() - answered))
        if over:
            return info
        errors_in_a_row = errors_in_a_row + 1 if action.error else 0
        if errors_in_a_row == patience:
            return env.finish(StopReason.FORMAT)[-1]
        session.observe(observations)


def _act(env: TaskEnv, action: Action) -> tuple[tuple[Observation, ...], bool, dict[str, Any]]:
    """Make an action's calls; one that could not be parsed touches nothing and is answered with why."""
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
