"""Day Three: an agentic coding environment and gym for multi-step RL.

The names below are the public ones. Each is imported when it is first used: `import daythree` is instant.

    env = daythree.make_env("tasks/wcwidth")
    observation, info = env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step(daythree.ToolCall("1", "view", {"path": "."}))
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agents.evals.evaluate import EvalSettings as EvalSettings
    from agents.evals.evaluate import evaluate as evaluate
    from agents.policies.by_name import build_policy as build_policy
    from agents.policies.scripted import ScriptedPolicy as ScriptedPolicy
    from agents.rollout import run_episode as run_episode
    from agents.types import Policy as Policy
    from agents.types import Trajectory as Trajectory
    from envs.coding import CodingEnv as CodingEnv
    from envs.register import RegisterSettings as RegisterSettings
    from envs.register import register_git as register_git
    from envs.register import register_inject as register_inject
    from envs.register import register_practice as register_practice
    from envs.tasksets.taskset import TaskSet as TaskSet
    from envs.tasksets.taskset import load_taskset as load_taskset
    from envs.tools.base import Tool as Tool
    from envs.tools.base import ToolContext as ToolContext
    from envs.tools.base import ToolError as ToolError
    from envs.tools.base import tool as tool
    from envs.types import Observation as Observation
    from envs.types import Task as Task
    from envs.types import ToolCall as ToolCall
    from envs.types import Verdict as Verdict
    from sandboxes import Backend as Backend
    from sandboxes import Sandbox as Sandbox
    from sandboxes import SandboxSpec as SandboxSpec
    from sandboxes import connect as connect
    from sandboxes.conformance import check_backend as check_backend
    from trainer.config import Config as Config
    from trainer.loop import train as train

_HOMES = {
    "Backend": "sandboxes",
    "CodingEnv": "envs.coding",
    "Config": "trainer.config",
    "EvalSettings": "agents.evals.evaluate",
    "Observation": "envs.types",
    "Policy": "agents.types",
    "RegisterSettings": "envs.register",
    "Sandbox": "sandboxes",
    "SandboxSpec": "sandboxes",
    "ScriptedPolicy": "agents.policies.scripted",
    "Task": "envs.types",
    "TaskSet": "envs.tasksets.taskset",
    "Tool": "envs.tools.base",
    "ToolCall": "envs.types",
    "ToolContext": "envs.tools.base",
    "ToolError": "envs.tools.base",
    "Trajectory": "agents.types",
    "Verdict": "envs.types",
    "build_policy": "agents.policies.by_name",
    "check_backend": "sandboxes.conformance",
    "connect": "sandboxes",
    "evaluate": "agents.evals.evaluate",
    "load_taskset": "envs.tasksets.taskset",
    "register_git": "envs.register",
    "register_inject": "envs.register",
    "register_practice": "envs.register",
    "run_episode": "agents.rollout",
    "tool": "envs.tools.base",
    "train": "trainer.loop",
}

__all__ = [
    "make_env",
    "Backend",
    "CodingEnv",
    "Config",
    "EvalSettings",
    "Observation",
    "Policy",
    "RegisterSettings",
    "Sandbox",
    "SandboxSpec",
    "ScriptedPolicy",
    "Task",
    "TaskSet",
    "Tool",
    "ToolCall",
    "ToolContext",
    "ToolError",
    "Trajectory",
    "Verdict",
    "build_policy",
    "check_backend",
    "connect",
    "evaluate",
    "load_taskset",
    "register_git",
    "register_inject",
    "register_practice",
    "run_episode",
    "tool",
    "train",
]


def make_env(*tasksets: Any, **options: Any) -> CodingEnv:
    """Open the environment on task sets, each a folder or a loaded `TaskSet`.

    `options` are those of `envs.coding.CodingEnv`: backend, split, tools, reward, embedder.
    """
    from envs.coding import CodingEnv

    return CodingEnv(tasksets, **options)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"daythree has no name {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
