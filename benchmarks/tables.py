"""Measure one part of the system on this machine, as one table."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envs.tasksets.taskset import TaskSet
from sandboxes import ImageRecipe
from sandboxes.backend import Backend
from sandboxes.progress import Progress, silent

if TYPE_CHECKING:
    from .peers import Peer

Table = dict[str, dict[str, Any]]
"""Row name to figures by name, such as `{"exec": {"p50": 0.4}}`."""

IMAGE_S = 900.0
"""Deadline of building an image."""


def measure_sandbox(
    backend: Backend, *, peers: Path | None = None, crowd: int = 0, progress: Progress = silent
) -> Table:
    """Time a sandbox, its calls and its forks; beside them Docker's own `exec` and `run`, and the peers.

    `peers` is a Python interpreter with peers installed; `crowd` is a number of sandboxes to keep alive at
    once, 0 for none.
    """
    from . import load as bench_load
    from . import sandboxes as bench

    image = backend.ensure_image(ImageRecipe("bench"), timeout_s=IMAGE_S, progress=progress)
    with ExitStack() as stack:
        others = _peers(backend, peers, image, stack, progress) if peers else {}
        table = bench.measure(backend, image, peers=others, progress=progress)
    progress("measuring forks", 0, 1)
    table |= {
        f"{name}, 50 MB changed of 500": row for name, row in bench_load.measure_forks(backend, image).items()
    }
    progress("measuring forks", 1, 1)
    figures: Table = {f"{backend.name}: {name}, ms": row for name, row in table.items()}
    if crowd:
        many = bench_load.measure_crowd(backend, image, count=crowd, progress=progress)
        figures |= {f"{backend.name}: {crowd} at once, {name}": row for name, row in many.items()}
    return figures


def _peers(
    backend: Backend, python: Path, image: str, stack: ExitStack, progress: Progress
) -> dict[str, Peer]:
    """Start the peers that an interpreter has installed, each with a suitable image."""
    from .peers import Peer, installed, pins

    found: dict[str, Peer] = {}
    for name in installed(python):
        own = image
        if name == "swe-rex":  # its server has to be in the image
            recipe = ImageRecipe("bench-swe-rex", requirements=pins(python, name))
            own = backend.ensure_image(recipe, timeout_s=IMAGE_S, progress=progress)
        found[name] = Peer(python, name, own)
        stack.callback(found[name].close)
    return found


def measure_layers(backend: Backend, folder: Path, *, progress: Progress = silent) -> Table:
    """Time each grading layer."""
    from .layers import measure_layers

    return dict(measure_layers(backend, folder, progress=progress))


def measure_episode_rate(backend: Backend, folder: Path, *, progress: Progress = silent) -> Table:
    """Play small episodes one at a time and four at a time: reset, ten steps, grading."""
    from . import episodes as bench

    table: Table = {}
    for concurrency in (1, 4):
        rows = bench.measure_episodes(
            backend, folder / str(concurrency), concurrency=concurrency, progress=progress
        )
        table |= {f"{backend.name}, {concurrency} at once: {name}": row for name, row in rows.items()}
    return table


def measure_grading(taskset: TaskSet, backend: Backend, *, progress: Progress = silent) -> Table:
    """Time reset, every tool, and grading beside the bare test run, on a task set, in milliseconds."""
    from . import episodes as bench

    table = bench.measure_steps(taskset, backend, progress=progress)
    table |= bench.measure_grading(taskset, backend, progress=progress)
    return {f"{name}, ms": row for name, row in table.items()}


def measure_episodes(taskset: TaskSet, backend: Backend, *, progress: Progress = silent) -> Table:
    """Time whole episodes of the oracle. The oracle answers at once, so the environment takes the time."""
    from agents.executor import EpisodeRequest, ThreadExecutor
    from agents.policies.by_name import OraclePolicy
    from envs.coding import CodingEnv

    table = {}
    for concurrency in sorted({1, 2 * (os.cpu_count() or 1)}):
        requests = [
            EpisodeRequest(task, seed, f"bench/{task.id}") for seed in range(2) for task in taskset.tasks[:8]
        ]
        started = time.perf_counter()
        executor = ThreadExecutor(lambda: CodingEnv([taskset], backend=backend), concurrency)
        played = list(executor.play(requests, OraclePolicy(), progress=progress))
        seconds = time.perf_counter() - started
        scored = [episode.duration_s for episode in played if episode.reward is not None]
        table[f"oracle, {concurrency} at once"] = {
            "episodes_per_minute": 60 * len(scored) / seconds,
            "mean_episode_s": sum(scored) / max(1, len(scored)),
            "unscored": len(played) - len(scored),
        }
    return table


def measure_generation(*, progress: Progress = silent) -> Table:
    """Time vLLM on a new tiny model: the start, then 1, 8 and 64 streams."""
    from .generation import measure

    return dict(measure(progress=progress))


def measure_learner(*, progress: Progress = silent) -> Table:
    """Time the learner on a model of the tiny policy's size, eager and compiled, padded and packed."""
    # Before torch is loaded: threads that spin while they wait make a busy machine ten times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from .learner import measure

    return measure(threads=len(os.sched_getaffinity(0)), progress=progress)


def rows(table: Mapping[str, Mapping[str, Any]]) -> Sequence[Sequence[str]]:
    """Return a table as text rows: the row's name, then its figures with their names."""
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
