"""A coding task as a Gymnasium environment: reset to an instruction, step tool calls, end in a verdict.

    env = gymnasium.make("daythree/Repo-v0", tasksets=["tasks/wcwidth"])
    observation, info = env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step(ToolCall("1", "view", {"path": "."}))

Every episode, whatever its stop reason (submit, turns, tokens, time), ends in `CodingEnv.finish`, which
grades. A failing sandbox raises `SandboxError` out of `reset`, `step` and `finish`: such an episode has no
reward, and must not get one.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import gymnasium

import sandboxes
from sandboxes.backend import Backend
from sandboxes.base import Content, Sandbox

from .grading.grade import grade, noted
from .grading.memory import VerdictMemory
from .grading.reward import Reward, find_reward, rewarded
from .grading.run import SETUP_S, grading_specs, sandbox_spec
from .grading.submission import collect
from .search.embedder import Embedder
from .spaces import ObservationSpace, ToolCallSpace
from .tasksets.taskset import TaskSet, TaskSetError, load_taskset
from .tasksets.trees import one_commit, pack
from .tools.base import Tool, ToolContext
from .tools.calls import make_call
from .tools.toolset import Toolset
from .types import Observation, StopReason, Task, ToolCall

Step = tuple[Observation, float, bool, bool, dict[str, Any]]


class CodingEnv(gymnasium.Env[Observation, ToolCall]):
    """An environment over repository tasks. Not thread-safe: use one environment per concurrent episode."""

    metadata: dict[str, Any] = {  # noqa: RUF012 (as Gymnasium declares it)
        "render_modes": ["ansi"],
        "render_fps": 1,
    }

    def __init__(
        self,
        tasksets: Sequence[TaskSet | Path | str],
        *,
        tools: Toolset | Sequence[str | type[Tool]] | None = None,
        reward: Reward | str = "outcome",
        backend: Backend | str = "auto",
        split: str | None = None,
        embedder: Embedder | None = None,
        verdict_memory: VerdictMemory | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Open on task sets, loaded or by folder; `split` narrows the tasks that `reset` draws from.

        `tools` defaults to all built-in tools (`Toolset.of` explains how to name others), and `reward` to the
        outcome (`envs.grading.reward`). Several environments may share a `backend` object; through
        `gymnasium.make`, which copies its arguments, pass the backend's name instead. With an `embedder`,
        search by meaning also ranks by its vectors. Environments that share a `verdict_memory` grade equal
        submissions once.

        Raises TaskSetError, ToolsetError, RewardError, UnknownNameError, and SandboxUnavailable when
        `backend` is a name and no such backend runs here.
        """
        assert render_mode in (None, *self.metadata["render_modes"]), f"unknown render mode {render_mode!r}"
        self.toolset = (
            tools if isinstance(tools, Toolset) else Toolset() if tools is None else Toolset.of(tools)
        )
        self._reward = find_reward(reward)
        self._tasks = {
            task.id: (taskset, task)
            for taskset in (
                given if isinstance(given, TaskSet) else load_taskset(given) for given in tasksets
            )
            for task in taskset.tasks
            if split in (None, task.split)
        }
        if not self._tasks:
            raise TaskSetError("there is no task to work on" + (f" in split {split}" if split else ""))
        self._backend = sandboxes.connect(backend) if isinstance(backend, str) else backend
        self._embedder = embedder
        self._grade = grade if verdict_memory is None else verdict_memory.grade
        self._owns_backend = isinstance(backend, str)
        self._sandbox: Sandbox | None = None
        self._current: tuple[TaskSet, Task] | None = None
        self._turns, self._ends, self._last = 0, 0.0, Observation("")
        self.render_mode = render_mode
        self.tools = self.toolset.specs()
        self.action_space = ToolCallSpace(self.toolset)
        self.observation_space = ObservationSpace()

    @property
    def task(self) -> Task:
        """The task of the current episode."""
        return self._episode()[1]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode on `options["task"]` (an id), or on a task drawn with the seed.

        Raises SandboxError, and TaskSetError for an unknown id.
        """
        super().reset(seed=seed)
        self._drop_sandbox()
        taskset, task = self._current = self._choose((options or {}).get("task"))
        self._backend.ensure_image(taskset.runtime(task).image, timeout_s=task.limits.episode_s)
        spec, content = sandbox_spec(taskset, task), _content(taskset, task)
        self._sandbox = self._backend.open(spec, timeout_s=SETUP_S, content=content)
        for grading_spec in grading_specs(taskset, task):
            self._backend.expect(grading_spec)  # it starts while the policy works
        self._turns, self._ends = 0, time.monotonic() + task.limits.episode_s
        self._last = Observation(task.instruction)
        return self._last, {"task": task.id, "set": taskset.name}

    def step(self, action: ToolCall) -> Step:
        """Make one tool call. A malformed or failing call is an observation, not an error.

        Raises SandboxError, and the errors of `finish`.
        """
        if time.monotonic() >= self._ends:
            return self.finish(StopReason.TIME)
        self._turns += 1
        taskset, task = self._episode()
        assert self._sandbox is not None, "the episode is over; call reset first"
        context = ToolContext(self._sandbox, taskset, task, self._embedder)
        observation, handed_in = make_call(self.toolset, action, context)
        if handed_in:
            return self.finish(StopReason.SUBMITTED, observation)
        if self._turns >= self.task.limits.max_turns:
            return self.finish(StopReason.MAX_TURNS, observation)
        self._last = observation
        return observation, 0.0, False, False, {"turns": self._turns}

    def finish(self, reason: StopReason, observation: Observation | None = None) -> Step:
        """End the episode for this reason and grade it; `info["verdict"]` lists passed and failed tests.

        The caller of `step` calls this for limits that only the caller can check (tokens, format).
        Raises SandboxError, and RewardError when a custom reward returns no finite number.
        """
        taskset, task = self._episode()
        assert self._sandbox is not None, "the episode is over; call reset first"
        try:
            submission = collect(self._sandbox, taskset, task, timeout_s=SETUP_S)
        finally:
            self._drop_sandbox()
        verdict = noted(self._grade(submission, taskset, task, self._backend), submission)
        self._last = observation or Observation(f"The episode is over: {reason}.")
        info = {
            "verdict": verdict,
            "patch": submission.patch,
            "dropped": submission.left_out,
            "stop": reason,
            "turns": self._turns,
        }
        terminated = reason is StopReason.SUBMITTED
        return self._last, rewarded(self._reward, verdict), terminated, not terminated, info

    def fork(self, count: int) -> list[CodingEnv]:
        """Branch the running episode into `count` environments, each in its own snapshot fork.

        Copied: the working directory and `/tmp`, turns taken, time left, last observation and random state.
        Background processes are not. This environment goes on as well. The branches share the backend, whose
        owner does not change. Raises SandboxError, leaving no branch behind.
        """
        assert self._sandbox is not None, "the episode is over; call reset first"
        branches: list[CodingEnv] = []
        for sandbox in sandboxes.fork(self._backend, self._sandbox, count, timeout_s=SETUP_S):
            branch = copy.copy(self)
            branch._owns_backend, branch._sandbox = False, sandbox
            branch.np_random = copy.deepcopy(self.np_random)
            branches.append(branch)
        return branches

    def render(self) -> str | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the last observation's text in render mode `ansi`."""
        return self._last.text if self.render_mode == "ansi" else None

    def close(self) -> None:
        """Close the episode's sandbox. Idempotent."""
        self._drop_sandbox()
        if self._owns_backend:
            self._backend.close()

    def _episode(self) -> tuple[TaskSet, Task]:
        assert self._current is not None, "no episode yet; call reset first"
        return self._current

    def _choose(self, task_id: str | None) -> tuple[TaskSet, Task]:
        if task_id is None:
            task_id = sorted(self._tasks)[int(self.np_random.integers(len(self._tasks)))]
        if task_id not in self._tasks:
            raise TaskSetError(f"there is no task {task_id!r} here")
        return self._tasks[task_id]

    def _drop_sandbox(self) -> None:
        sandbox, self._sandbox = self._sandbox, None
        if sandbox is not None:
            sandbox.close()


@lru_cache(maxsize=256)
def _content(taskset: TaskSet, task: Task) -> Content:
    """Return the initial content of the policy's sandbox: the base tree, in a git commit."""
    return Content(f"base-{task.base_digest}", lambda: _archive(taskset, task))


@lru_cache(maxsize=64)
def _archive(taskset: TaskSet, task: Task) -> bytes:
    base = taskset.base_tree(task)
    return pack(base | one_commit(base))
