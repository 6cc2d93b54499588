"""Measure the latency of sandboxes, and of other systems in the same run.

Each round takes every kind of step once, so that a slower phase of the machine affects all kinds alike.
The other systems are Docker's own `docker exec` and `docker run`, and the peers of `benchmarks.peers`.
"""

from __future__ import annotations

import contextlib
import io
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sandboxes.backend import Backend
from sandboxes.base import Content, Sandbox, SandboxSpec
from sandboxes.pool.pool import Pool
from sandboxes.progress import Progress, silent

from .peers import Peer

STEP_S = 30.0
SOURCE = b"def value(x):\n    return x + 1\n\n" * 100
Steps = dict[str, Callable[[], object]]


def small_tree() -> bytes:
    """Return a tar of 50 Python modules."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for number in range(50):
            info = tarfile.TarInfo(f"module_{number}.py")
            info.size = len(SOURCE)
            tar.addfile(info, io.BytesIO(SOURCE))
    return buffer.getvalue()


SMALL = Content("bench-small", small_tree)


def measure(
    backend: Backend,
    image: str,
    *,
    peers: Mapping[str, Peer] | None = None,
    rounds: int = 100,
    opens: int = 10,
    timeout_s: float = 600.0,
    progress: Progress = silent,
) -> dict[str, dict[str, float]]:
    """Return milliseconds by kind of step: `{"read": {"p50": …, "p99": …, "samples": …}, …}`.

    Steps, `rounds` times: `exec` (`true`), `read`, `write`, `list`, `search`, `search_regex`; with Docker
    `docker_exec` of `true`; each peer's step. Steps, `opens` times: `open` of a cold sandbox with a first
    command, and `close`; with a pool, reset of a warm sandbox and its first command; with Docker `docker_run`
    of `true`; each peer's stop and start. After `timeout_s` the rounds end, with fewer samples. Raises
    `SandboxError`, and RuntimeError when a peer fails.
    """
    deadline = time.monotonic() + timeout_s
    samples: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        pool = backend if isinstance(backend, Pool) else None
        bare = pool.inner if pool else backend
        sandbox = bare.open(SandboxSpec(image), timeout_s=STEP_S)
        stack.callback(sandbox.close)
        steps, rare = tool_steps(sandbox), dict[str, Callable[[], object]]()
        if backend.name == "docker":
            engine = stack.enter_context(docker_client())
            steps["docker_exec"] = docker_exec(engine, sandbox)
            rare["docker_run"] = lambda: engine.containers.run(
                image, "true", remove=True, network_mode="none"
            )
        for name, peer in (peers or {}).items():
            peer.measure("start")
            steps[f"{name} step"] = lambda peer=peer: peer.measure("step")
            rare[f"{name} stop and start"] = lambda peer=peer: (peer.measure("stop"), peer.measure("start"))
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
                if pool:
                    open_warm(samples, pool, image)
        progress("measuring sandboxes", rounds, rounds)
    return {name: summary(values) for name, values in samples.items()}


def tool_steps(sandbox: Sandbox) -> Steps:
    """Write 50 modules, and return one function per kind of sandbox call that an agent's tools make."""
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


def take(samples: dict[str, list[float]], steps: Steps) -> None:
    """Time every step once."""
    for name, step in steps.items():
        timed(samples, name, step)


def timed(samples: dict[str, list[float]], name: str, step: Callable[[], Any]) -> Any:
    started = time.perf_counter()
    result = step()
    samples.setdefault(name, []).append((time.perf_counter() - started) * 1e3)
    return result


def open_and_close(samples: dict[str, list[float]], backend: Backend, image: str) -> None:
    """Time the start of a cold sandbox with its first command, and the sandbox's close."""

    def opened() -> Sandbox:
        sandbox = backend.open(SandboxSpec(image), timeout_s=STEP_S)
        sandbox.exec("true", timeout_s=STEP_S)
        return sandbox

    sandbox = timed(samples, "open, cold", opened)
    timed(samples, "close", sandbox.close)


def open_warm(samples: dict[str, list[float]], pool: Pool, image: str) -> None:
    """Time the reset of a pooled sandbox with a small tree, and the first command after the reset."""
    spec = SandboxSpec(image)
    pool.expect(spec)
    pool.settle(timeout_s=STEP_S)
    sandbox = timed(samples, "reset, warm", lambda: pool.open(spec, timeout_s=STEP_S, content=SMALL))
    try:
        timed(samples, "first command after it", lambda: sandbox.exec("true", timeout_s=STEP_S))
    finally:
        sandbox.close()


def docker_exec(engine: Any, sandbox: Sandbox) -> Callable[[], object]:
    """Return a function that runs `true` in the sandbox's container through Docker's own API."""
    name: str = getattr(sandbox, "name", "")
    container = engine.containers.get(name.rsplit(maxsplit=1)[-1])
    return lambda: container.exec_run(["sh", "-c", "true"])


@contextlib.contextmanager
def docker_client() -> Iterator[Any]:
    import docker

    from sandboxes.docker.backend import translated

    with translated("the Docker engine failed while it was measured"):
        client = docker.from_env(timeout=int(STEP_S))
        try:
            yield client
        finally:
            client.close()


def summary(values: list[float]) -> dict[str, float]:
    """Return median, 99th percentile (nearest rank) and size of a sample."""
    ordered = sorted(values)
    rank = max(0, -(-99 * len(ordered) // 100) - 1)
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return {"p50": round(median, 3), "p99": round(ordered[rank], 3), "samples": float(len(ordered))}
