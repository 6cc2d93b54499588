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
    """Return an uncompressed tar of incompressible files of 100 kB, `megabytes` in total."""
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
    """Return the milliseconds of a fork: the snapshot, and the start of a sandbox with the snapshot.

    A fork ends when a changed file has been read in the new sandbox. The forked sandbox has a tree of
    `tree_mb` and changes of `changes_mb`. For comparison, `cp -a` copies the tree once. A `backend` without a
    pool starts a cold sandbox for each fork.
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
    """Keep `count` sandboxes alive, and run commands in all of them at the same time.

    Rows: the number of sandboxes that answered; milliseconds of a command; MiB per sandbox, as the machine's
    lost memory divided by `count`, and as counted by each sandbox's control group.
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
            list(threads.map(lambda sandbox: sandbox.close(), opened))
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
    """Return the memory of the sandbox's control group in MiB, or None when the group is not visible."""
    for path in USAGE:
        try:
            return int(sandbox.read(path, timeout_s=STEP_S)) / MB
        except OSError:
            continue
    return None


def available_mb() -> float:
    """Return the machine's available memory in MiB."""
    rows = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return int(rows["MemAvailable"].split()[0]) / 1024
