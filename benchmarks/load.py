"""Measure sandboxes under load: forks of a big episode, and many sandboxes alive at once."""

from __future__ import annotations

import io
import os
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from sandboxes.backend import Backend
from sandboxes.base import Content, Sandbox, SandboxSpec
from sandboxes.pool.pool import Pool
from sandboxes.progress import Progress, silent

from .sandboxes import STEP_S, summary

MB = 1 << 20
FILE_BYTES = 100_000
USAGE = ("/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory/memory.usage_in_bytes")
OPEN_S = 300.0


def archive(megabytes: int) -> bytes:
    """A tree of files of 100 kB that do not compress, as an uncompressed tar."""
    buffer = io.BytesIO()
    data = os.urandom(FILE_BYTES)
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for number in range(megabytes * MB // FILE_BYTES):
            info = tarfile.TarInfo(f"tree/folder_{number % 100}/file_{number}.dat")
            info.size = FILE_BYTES
            tar.addfile(info, io.BytesIO(number.to_bytes(8, "big") + data[8:]))
    return buffer.getvalue()


def measure_forks(
    backend: Backend, image: str, *, tree_mb: int = 500, changes_mb: int = 50, forks: int = 10
) -> dict[str, dict[str, float]]:
    """Milliseconds of a fork: the snapshot, and a warm sandbox with it, until a changed file was read there.

    The episode has changed `changes_mb` of a tree of `tree_mb`, and goes on. Beside it: copying the same tree
    with `cp -a` inside the sandbox, once. With a `backend` that is no pool, each fork pays for a cold start.
    """
    tree = archive(tree_mb)
    spec = SandboxSpec(image, disk_mb=2 * tree_mb + changes_mb, memory_mb=512)
    content = Content(f"bench-{tree_mb}", lambda: tree)
    sandbox = backend.open(spec, timeout_s=OPEN_S, content=content)
    rows: dict[str, list[float]] = {"snapshot": [], "open of a snapshot": [], "fork": []}
    try:
        write = (
            f"mkdir changed && for n in $(seq {changes_mb}); do head -c {MB} /dev/urandom > changed/$n; done"
        )
        assert sandbox.exec(write, timeout_s=OPEN_S).exit_code == 0, "the disk has room for it"
        for number in range(forks):
            backend.expect(spec)
            if isinstance(backend, Pool):
                backend.settle(timeout_s=OPEN_S)
            started = time.perf_counter()
            snapshot = sandbox.snapshot(timeout_s=OPEN_S)
            taken = time.perf_counter()
            with closing(backend.open(spec, timeout_s=OPEN_S, content=snapshot)) as fork:
                fork.read("changed/1", timeout_s=STEP_S, limit=10)
                ended = time.perf_counter()
            rows["snapshot"].append((taken - started) * 1e3)
            rows["open of a snapshot"].append((ended - taken) * 1e3)
            rows["fork"].append((ended - started) * 1e3)
            sandbox.write(f"changed/{number + 1}", b"the original goes on", timeout_s=STEP_S)
        copied = sandbox.exec("cp -a tree copy", timeout_s=OPEN_S)
    finally:
        sandbox.close()
    figures = {name: summary(values) for name, values in rows.items()}
    return figures | {"cp -a of the tree": summary([copied.duration_s * 1e3])}


def measure_crowd(
    backend: Backend, image: str, *, count: int = 256, progress: Progress = silent
) -> dict[str, dict[str, float]]:
    """Open `count` sandboxes that live at once, then have every one of them run commands at the same time.

    `answering` is how many did; the others are milliseconds of a command among all, and MiB: what the
    kernel counts for each sandbox's processes, and what the machine had less of, divided by their number.
    """
    spec = SandboxSpec(image)
    before, opened = available_mb(), list[Sandbox]()
    started = time.perf_counter()
    try:
        with ThreadPoolExecutor(4) as threads:
            for sandbox in threads.map(lambda _: backend.open(spec, timeout_s=OPEN_S), range(count)):
                opened.append(sandbox)
                progress("opening sandboxes", len(opened), count)
        open_s = time.perf_counter() - started
        with ThreadPoolExecutor(32) as threads:
            rounds = [list(threads.map(answer_ms, opened)) for _ in range(3)]
            usage = [mb for mb in threads.map(usage_mb, opened) if mb is not None]
        all_mb = (before - available_mb()) / count
    finally:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda one: one.close(), opened))
    answers = [row for round_ in rounds for row in round_ if row is not None]
    figures = {
        "alive": {"sandboxes": float(count), "seconds": round(open_s, 1)},
        "answering": {"sandboxes": float(min(sum(row is not None for row in r) for r in rounds))},
        "command among all, ms": summary(answers),
        "memory of each, all included, MiB": {"mean": round(all_mb, 1)},
    }
    return figures | ({"memory of each, its control group, MiB": summary(usage)} if usage else {})


def answer_ms(sandbox: Sandbox) -> float | None:
    started = time.perf_counter()
    result = sandbox.exec("true", timeout_s=STEP_S)
    return (time.perf_counter() - started) * 1e3 if result.exit_code == 0 else None


def usage_mb(sandbox: Sandbox) -> float | None:
    """Memory (MiB) of the sandbox's control group, where this is visible."""
    for path in USAGE:
        try:
            return int(sandbox.read(path, timeout_s=STEP_S)) / MB
        except OSError:
            continue
    return None


def available_mb() -> float:
    """Memory that this machine could still give, in MiB."""
    rows = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return int(rows["MemAvailable"].split()[0]) / 1024
