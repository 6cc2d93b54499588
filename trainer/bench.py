"""`daythree bench`: one table per part of the system, measured on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.engine import Sampling
from envs import bench
from envs.tasksets import TaskSet
from sandboxes import ImageRecipe, SandboxSpec
from sandboxes.backend import Backend
from sandboxes.progress import Progress, silent

if TYPE_CHECKING:
    from .engine import EngineClient

Table = dict[str, dict[str, Any]]
"""What was measured, to its figures by name."""

PROMPT_TOKENS, SAMPLED_TOKENS = 256, 128
ANSWER_S, IMAGE_S, OPEN_S, CALL_S = 300.0, 900.0, 60.0, 10.0
"""Deadlines of one completion, of building an image, of starting a sandbox, of one call."""


def measure_sandbox(backend: Backend, *, progress: Progress = silent) -> Table:
    """Time opening a sandbox and its calls; beside them, where Docker is used, its own `exec` and `run`."""
    image = backend.ensure_image(ImageRecipe("bench"), timeout_s=IMAGE_S, progress=progress)
    spec = SandboxSpec(image=image)
    table: Table = {}

    def timed(name: str, work: Callable[[], Any], times: int) -> None:
        table[f"{backend.name}: {name}"] = bench.summarise([_timed(work) for _ in range(times)])
        progress("measuring the sandbox", len(table), 0)

    timed("open and close", lambda: backend.open(spec, timeout_s=OPEN_S).close(), 10)
    sandbox = backend.open(spec, timeout_s=OPEN_S)
    try:
        sandbox.write("file.txt", b"line\n" * 1000, timeout_s=CALL_S)
        timed("exec true", lambda: sandbox.exec(["true"], timeout_s=CALL_S), 200)
        timed("exec in a shell", lambda: sandbox.exec("echo hello", timeout_s=CALL_S), 200)
        timed("read 5 kB", lambda: sandbox.read("file.txt", timeout_s=CALL_S), 500)
        timed("write 5 kB", lambda: sandbox.write("other.txt", b"x" * 5000, timeout_s=CALL_S), 500)
        timed("search", lambda: sandbox.search("line", timeout_s=CALL_S, limit=10), 100)
    finally:
        sandbox.close()
    if backend.name == "docker":
        table |= _docker_itself(image, progress)
    return table


def _timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _docker_itself(image: str, progress: Progress) -> Table:
    """Time what the `docker` command does for the same; empty where it is not installed."""
    if shutil.which("docker") is None:
        return {}

    def docker(*words: str) -> str:
        done = subprocess.run(["docker", *words], capture_output=True, text=True, timeout=OPEN_S, check=True)
        return done.stdout.strip()

    limits = ("--network", "none", "--label", "daythree.bench")
    name = docker("run", "--detach", "--rm", "--init", *limits, image, "sleep", "300")
    try:
        works = {
            "docker exec true": lambda: docker("exec", name, "true"),
            "docker run true": lambda: docker("run", "--rm", *limits, image, "true"),
        }
        table: Table = {}
        for what, work in works.items():
            progress(what, 0, 10)
            table[what] = bench.summarise([_timed(work) for _ in range(10)])
            progress(what, 10, 10)
        return table
    finally:
        docker("rm", "--force", name)


def measure_grading(taskset: TaskSet, backend: Backend, *, progress: Progress = silent) -> Table:
    """Time reset, every tool, and grading beside the bare test run, on a task set."""
    steps = bench.measure_steps(taskset, backend, progress=progress)
    return {**steps, **bench.measure_grading(taskset, backend, progress=progress)}


def measure_episodes(taskset: TaskSet, backend: Backend, *, progress: Progress = silent) -> Table:
    """Time whole episodes of the oracle, which thinks for nothing: what is left is the environment."""
    from agents.policies import OraclePolicy
    from agents.runner import EpisodeRequest, run_many
    from envs.coding import CodingEnv

    table = {}
    for concurrency in sorted({1, 2 * (os.cpu_count() or 1)}):
        requests = [
            EpisodeRequest(task, seed, f"bench/{task.id}") for seed in range(2) for task in taskset.tasks[:8]
        ]
        started = time.perf_counter()
        played = list(
            run_many(
                requests,
                lambda: CodingEnv([taskset], backend=backend),
                OraclePolicy(),
                concurrency=concurrency,
                progress=progress,
            )
        )
        seconds = time.perf_counter() - started
        scored = [one.duration_s for one in played if one.reward is not None]
        table[f"oracle, {concurrency} at once"] = {
            "episodes_per_minute": 60 * len(scored) / seconds,
            "mean_episode_s": sum(scored) / max(1, len(scored)),
            "unscored": len(played) - len(scored),
        }
    return table


def measure_generation(*, progress: Progress = silent) -> Table:
    """Time vLLM on a tiny model made for the purpose: start, one stream, and 64 at once."""
    from envs.tools import tool_specs

    from . import cluster
    from .config import Engine, Tiny
    from .engine import EngineSpec, start_engine
    from .tiny import make_tiny

    progress("starting the engine", 0, 1)
    with cluster.start() as ray:
        folder = ray.scratch() / "model"
        text = [path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("*.py"))]
        make_tiny(folder, Tiny(), text=text, tools=tool_specs(), context_tokens=1024, seed=0)
        started = time.perf_counter()
        engine = start_engine(EngineSpec(str(folder), Engine(), 1024))
        start_s = time.perf_counter() - started
        progress("starting the engine", 1, 1)
        try:
            rates = {str(streams): _tokens_per_s(engine, streams) for streams in (1, 8, 64)}
        finally:
            engine.close()
    table: Table = {"engine start": {"seconds": start_s}}
    return table | {f"{streams} at once": {"tokens_per_s": rate} for streams, rate in rates.items()}


def _tokens_per_s(engine: EngineClient, streams: int) -> float:
    def sample(seed: int) -> int:
        prompt = [300 + (seed * 31 + position * 7) % 200 for position in range(PROMPT_TOKENS)]
        deadline = time.monotonic() + ANSWER_S
        return len(
            engine.generate(prompt, Sampling(1.0, SAMPLED_TOKENS), seed=seed, deadline=deadline).token_ids
        )

    with ThreadPoolExecutor(streams) as threads:
        list(threads.map(sample, range(10_000, 10_000 + streams)))
        started = time.perf_counter()
        sampled = sum(threads.map(sample, range(streams)))
        return sampled / (time.perf_counter() - started)


def measure_learner(*, progress: Progress = silent) -> Table:
    """Time forward and backward of the learner on a model of the tiny policy's size."""
    from .bench_learner import measure

    progress("measuring the learner", 0, 1)
    row = measure(threads=len(os.sched_getaffinity(0)))
    progress("measuring the learner", 1, 1)
    return {"forward and backward": row}


def rows(table: Mapping[str, Mapping[str, Any]]) -> Sequence[Sequence[str]]:
    """Return a table's lines for people: what was measured, then each figure with its name."""
    return [
        [
            name,
            "  ".join(
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                for key, value in row.items()
            ),
        ]
        for name, row in table.items()
    ]
