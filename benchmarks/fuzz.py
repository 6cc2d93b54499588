"""Random hostile episodes in real sandboxes: every one is scored, rightly, and leaves nothing.

python -m benchmarks fuzz --episodes 200 --seed 0
python -m benchmarks fuzz --seed 0 --only 17        # one episode again, call by call
"""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from envs.coding import CodingEnv
from envs.tasksets.taskset import TaskSet
from envs.tasksets.trees import apply_patch
from envs.types import Limits, ToolCall
from sandboxes.backend import Backend
from sandboxes.progress import Progress, silent

from .grammar import FIX, SUBMIT, Planned, plan
from .task import bench_taskset

IMAGE_S = 900.0
LIMITS = Limits(max_turns=20, command_s=2, test_s=5, episode_s=90)
"""Short, because hostile commands wait for their limits."""


@dataclass(frozen=True)
class Played:
    """The end of one episode."""

    number: int
    reward: float | None
    seconds: float
    finding: str = ""
    """What went wrong; empty when nothing did."""


def fuzz_taskset(folder: Path) -> TaskSet:
    """Write the task set of the benchmarks, with short limits."""
    taskset = bench_taskset(folder)
    return replace(taskset, tasks=tuple(replace(task, limits=LIMITS) for task in taskset.tasks))


def fuzz(
    backend: Backend,
    taskset: TaskSet,
    *,
    seed: int,
    numbers: Iterable[int],
    at_once: int = 2,
    say: Callable[[str], None] | None = None,
    progress: Progress = silent,
) -> list[Played]:
    """Play the episodes of these numbers; `say` is shown each call and observation."""
    wanted = [*numbers]
    backend.ensure_image(taskset.runtime(taskset.tasks[0]).image, timeout_s=IMAGE_S)
    played: list[Played] = []

    def work(number: int) -> Played:
        with closing(CodingEnv([taskset], backend=backend)) as env:
            return play(env, plan(seed, number), number, say=say)

    with ThreadPoolExecutor(at_once, thread_name_prefix="fuzz") as threads:
        for ended in threads.map(work, wanted):
            played.append(ended)
            progress("episodes", len(played), len(wanted))
    return played


def play(
    env: CodingEnv, planned: Planned, number: int, *, say: Callable[[str], None] | None = None
) -> Played:
    """Play one episode and judge its end."""
    started = time.monotonic()
    reward, mended = None, False
    try:
        env.reset(seed=0)
        for call in planned.calls:
            observation, *_ = env.step(call)
            mended |= call is FIX and not observation.is_error
            observation.text.encode()
            if say is not None:
                say(f"{call.name} {_shown(call)}\n{observation.text[:400]}\n")
        _, reward, terminated, _, info = env.step(SUBMIT)
        finding = "" if terminated else "submitting did not end it"
        finding = finding or _misjudged(reward, mended, planned) or _lost(env, info)
        if say is not None:
            say(f"reward {reward}, {info['verdict']}\nnot graded: {info['dropped']}\n{info['patch'][:2000]}")
    except Exception:  # of any kind: none may leave an episode
        finding = traceback.format_exc(limit=-4)
    return Played(number, reward, time.monotonic() - started, finding)


def _shown(call: ToolCall) -> str:
    command = call.arguments.get("command")
    return command if isinstance(command, str) else repr(call.arguments)[:400]


def _misjudged(reward: float, mended: bool, planned: Planned) -> str:
    if reward and not mended:
        return "it did not mend the bug and has a reward"
    if mended and not planned.spoils and not reward:
        return "it mended the bug, left the code alone and has no reward"
    return ""


def _lost(env: CodingEnv, info: dict[str, Any]) -> str:
    """Say what of the end cannot be stored and read back."""
    task = env.task
    base = next(taskset for taskset, found in env._tasks.values() if found is task).base_tree(task)
    patch = json.loads(json.dumps(info["patch"], ensure_ascii=False).encode())
    apply_patch(base, patch)
    json.dumps(
        [info["dropped"], info["verdict"].log, dict(info["verdict"].layers)], ensure_ascii=False
    ).encode()
    return ""


def table(played: Sequence[Played]) -> dict[str, dict[str, Any]]:
    """Sum up the episodes."""
    seconds = sorted(ended.seconds for ended in played)
    return {
        "fuzz": {
            "episodes": len(played),
            "scored": sum(ended.reward is not None for ended in played),
            "rewarded": sum(bool(ended.reward) for ended in played),
            "findings": sum(bool(ended.finding) for ended in played),
            "p50_s": seconds[len(seconds) // 2],
            "slowest_s": seconds[-1],
        }
    }


def remains() -> list[str]:
    """Return what is left of this process's sandboxes once their backend is closed."""
    from .soak import SETTLE_S, remains_of

    until = time.monotonic() + SETTLE_S
    while (found := remains_of(os.getpid())) and time.monotonic() < until:
        time.sleep(0.2)
    return found
