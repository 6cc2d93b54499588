"""Play practice tasks in this process's memory: the environment's own tools, without a sandbox.

A scripted teacher plays tens of thousands of episodes, whose observations must be those of real sandboxes,
byte for byte. Every tool here is the environment's own code on an in-memory file system; only `test`
evaluates the assertions by itself (`memory.run_in_memory`) and words them as the real tool does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from sandboxes.base import SandboxSpec
from sandboxes.fake import FakeSandbox

from ...tasksets.store import TreeStore
from ...tasksets.taskset import Manifest, Runtime, TaskSet
from ...tasksets.trees import Tree, TreeFile
from ...tools.base import ToolContext, ToolSpec, tool
from ...tools.calls import make_call
from ...tools.text import describe_run
from ...tools.toolset import DEFAULT_TOOLS, Toolset
from ...types import Observation, StopReason, Task, ToolCall, Verdict
from .memory import run_in_memory
from .repository import Repository
from .tasks import ENVIRONMENT, RUNTIME, PracticeTask, make_tasks

Outcome = tuple[Observation, float, bool, bool, dict[str, Any]]


@dataclass(frozen=True, eq=False)
class MemoryTaskSet(TaskSet):
    """The task set of one repository that was drawn and not stored."""

    made: Mapping[str, PracticeTask] = field(default_factory=dict)

    @classmethod
    def of(cls, repository: Repository, name: str, split: str) -> MemoryTaskSet:
        """Make the tasks of a repository's issues; `name` starts their ids and must be unique."""
        made = {made.task.id: made for made in make_tasks(repository, name, split, patches=False)}
        manifest = Manifest("practice", "practice", "memory", {ENVIRONMENT: RUNTIME})
        tasks = tuple(made_task.task for made_task in made.values())
        return cls(manifest, tasks, repository.prs, TreeStore(Path()), f"memory {name}", Path(), made)

    def base_tree(self, task: Task) -> Tree:
        return self.made[task.id].base

    def runtime(self, task: Task) -> Runtime:  # noqa: ARG002
        return RUNTIME


@tool
class MemoryTest:
    """The tool `test`, evaluated in memory; it takes no target."""

    def run(self, at: ToolContext) -> str:
        base = at.taskset.base_tree(at.task)
        paths = [path for path in at.task.test_files if path in base]
        return describe_run(run_in_memory(_files(at.sandbox, at.task), paths))


class MemoryEnv:
    """An environment of in-memory practice tasks, for the rollout loop (`agents.rollout.TaskEnv`)."""

    toolset: ClassVar = Toolset({**DEFAULT_TOOLS, "test": MemoryTest})

    def __init__(self, taskset: MemoryTaskSet) -> None:
        self._taskset = taskset
        self._at: ToolContext | None = None
        self._turns = 0

    @property
    def tools(self) -> Sequence[ToolSpec]:
        """The default tools, described as ever."""
        return _SPECS

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode of `options["task"]`."""
        del seed
        task = self._taskset.task((options or {})["task"])
        files = {path: entry.data for path, entry in self._taskset.base_tree(task).items()}
        sandbox = FakeSandbox(SandboxSpec(image="", workdir=task.workdir), files)
        self._at, self._turns = ToolContext(sandbox, self._taskset, task), 0
        return Observation(task.instruction), {"task": task.id}

    def step(self, action: ToolCall, /) -> Outcome:
        """Make one call."""
        assert self._at is not None, "call reset first"
        self._turns += 1
        observation, ends = make_call(self.toolset, action, self._at)
        if ends:
            return self.finish(StopReason.SUBMITTED, observation)
        if self._turns >= self._at.task.limits.max_turns:
            return self.finish(StopReason.MAX_TURNS, observation)
        return observation, 0.0, False, False, {"turns": self._turns}

    def finish(self, reason: StopReason, observation: Observation | None = None) -> Outcome:
        """End the episode with the verdict of every test, hidden ones included."""
        assert self._at is not None, "call reset first"
        task = self._at.task
        tests = {path: self._taskset.made[task.id].full[path] for path in task.test_files}
        report = run_in_memory(_files(self._at.sandbox, task) | tests, task.test_files)
        expected = {*task.fail_to_pass, *task.pass_to_pass}
        failed = tuple(sorted(expected & set(report.ids("failed"))))
        verdict = Verdict(not failed, tuple(sorted(expected - set(failed))), failed)
        seen = observation or Observation(f"The episode is over: {reason}.")
        info = {"verdict": verdict, "stop": reason, "turns": self._turns, "patch": ""}
        return seen, verdict.reward, reason is StopReason.SUBMITTED, reason is not StopReason.SUBMITTED, info

    def close(self) -> None:
        """Drop the files."""
        self._at = None


_SPECS = Toolset().specs()


def _files(sandbox: Any, task: Task) -> dict[str, TreeFile]:
    start = f"{task.workdir}/"
    return {
        path.removeprefix(start): TreeFile(data)
        for path, data in sandbox.files.items()
        if path.startswith(start)
    }
