"""Measure what a sandbox costs, beside what the engine's own ways to run a command cost, in the same run.

Every kind of step takes its turn in every round, so that a machine that slows down slows all of them alike.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from .backend import Backend
from .base import Sandbox, SandboxSpec
from .pool import Pool
from .progress import Progress, silent

STEP_S = 30.0
SOURCE = b"def value(x):\n    return x + 1\n\n" * 100


def measure(
    backend: Backend,
    image: str,
    *,
    rounds: int = 100,
    opens: int = 5,
    timeout_s: float = 600.0,
    progress: Progress = silent,
) -> dict[str, dict[str, float]]:
    """Milliseconds by kind of step: `{"read": {"p50": …, "p99": …, "samples": …}, …}`.

    Steps: `exec` (`true`), `read`, `write`, `list`, `search`, `search_regex`; `open` and `close` of a cold
    sandbox, and with a pool `open_warm` and `close_warm` of one that waits there; with Docker also
    `docker_exec` and `docker_run` of `true` through the engine's own API. The slow kinds (`open`, `close`,
    `docker_run`) are taken `opens` times. Ends early, with fewer samples, at `timeout_s`.

    Raises `SandboxError`.
    """
    deadline = time.monotonic() + timeout_s
    samples: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        bare = backend.inner if isinstance(backend, Pool) else backend
        sandbox = bare.open(SandboxSpec(image), timeout_s=STEP_S)
        stack.callback(sandbox.close)
        steps = tool_steps(sandbox)
        rare: dict[str, Callable[[], object]] = {}
        if backend.name == "docker":
            engine = stack.enter_context(docker_client())
            steps["docker_exec"] = docker_exec(engine, sandbox)
            rare["docker_run"] = lambda: engine.containers.run(
                image, "true", remove=True, network_mode="none"
            )
        for step in steps.values():
            step()  # the first of each kind pays for what is then in memory
        for number in range(rounds):
            progress("measuring sandboxes", number, rounds)
            if time.monotonic() > deadline:
                break
            take(samples, steps)
            if number * opens // rounds != (number - 1) * opens // rounds:
                take(samples, rare)
                open_and_close(samples, bare, image)
                if isinstance(backend, Pool):
                    backend.expect(SandboxSpec(image))
                    backend.settle(timeout_s=STEP_S)
                    open_and_close(samples, backend, image, "_warm")
        progress("measuring sandboxes", rounds, rounds)
    return {name: summary(values) for name, values in samples.items()}


def tool_steps(sandbox: Sandbox) -> dict[str, Callable[[], object]]:
    """One call of every kind that an agent's tools make."""
    for number in range(50):
        sandbox.write(f"bench/module_{number}.py", SOURCE, timeout_s=STEP_S)
    path = "bench/module_7.py"
    return {
        "exec": lambda: sandbox.exec("true", timeout_s=STEP_S),
        "read": lambda: sandbox.read(path, timeout_s=STEP_S),
        "write": lambda: sandbox.write(path, SOURCE, timeout_s=STEP_S),
        "list": lambda: sandbox.listdir("bench", timeout_s=STEP_S),
        "search": lambda: sandbox.search("value(", path="bench", timeout_s=STEP_S),
        "search_regex": lambda: sandbox.search(r"val\w+\(", path="bench", regex=True, timeout_s=STEP_S),
    }


def take(samples: dict[str, list[float]], steps: dict[str, Callable[[], object]]) -> None:
    """Time every step once."""
    for name, step in steps.items():
        started = time.perf_counter()
        step()
        samples.setdefault(name, []).append((time.perf_counter() - started) * 1e3)


def open_and_close(samples: dict[str, list[float]], backend: Backend, image: str, kind: str = "") -> None:
    """Time a sandbox until its first command is done, and its end."""
    started = time.perf_counter()
    sandbox = backend.open(SandboxSpec(image), timeout_s=STEP_S)
    try:
        sandbox.exec("true", timeout_s=STEP_S)
        samples.setdefault(f"open{kind}", []).append((time.perf_counter() - started) * 1e3)
        started = time.perf_counter()
    finally:
        sandbox.close()
    samples.setdefault(f"close{kind}", []).append((time.perf_counter() - started) * 1e3)


def docker_exec(engine: Any, sandbox: Sandbox) -> Callable[[], object]:
    """`docker exec` of the same command in the same container."""
    name: str = getattr(sandbox, "name", "")
    container = engine.containers.get(name.rsplit(maxsplit=1)[-1])
    return lambda: container.exec_run(["sh", "-c", "true"])


@contextlib.contextmanager
def docker_client() -> Iterator[Any]:
    import docker

    from .docker import translated

    with translated("the Docker engine failed while it was measured"):
        client = docker.from_env(timeout=int(STEP_S))
        try:
            yield client
        finally:
            client.close()


def summary(values: list[float]) -> dict[str, float]:
    """Median and 99th percentile (nearest rank) of a sample."""
    ordered = sorted(values)
    rank = max(0, -(-99 * len(ordered) // 100) - 1)
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return {"p50": round(median, 3), "p99": round(ordered[rank], 3), "samples": float(len(ordered))}
