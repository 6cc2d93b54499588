"""The backend contract: open sandboxes, and remove the leftovers of dead runs."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from .base import Content, Sandbox, SandboxSpec
from .images.recipe import ImageRecipe
from .progress import Progress, silent

OWNER_VARIABLE = "DAYTHREE_SANDBOX_OWNER"
"""Names the `Owner` in the environment of processes that are started for a sandbox."""


@runtime_checkable
class Backend(Protocol):
    """One isolation technology. All methods are thread-safe."""

    name: str
    """A short name, such as `docker`."""

    def open(self, spec: SandboxSpec, *, timeout_s: float, content: Content | None = None) -> Sandbox:
        """Start a sandbox that holds `content`. Raises `SandboxUnavailable`, also at the deadline."""
        ...

    def expect(self, spec: SandboxSpec, count: int = 1) -> None:
        """Announce that `count` sandboxes of this spec will be opened soon. A no-op without an idle pool."""
        ...

    def ensure_image(self, recipe: ImageRecipe, *, timeout_s: float, progress: Progress = silent) -> str:
        """Return `recipe.ref`, building missing parts. Raises `SandboxUnavailable`."""
        ...

    def has_image(self, ref: str) -> bool: ...

    def reap(self) -> list[str]:
        """Remove leftovers of dead runs; return their names."""
        ...

    def close(self) -> None:
        """Close every open sandbox and disconnect from the engine. Idempotent."""
        ...


@dataclass(frozen=True)
class Owner:
    """The process that owns a sandbox, written so that any process can later tell whether it is alive."""

    host: str
    """Boot id and PID namespace: within these a process id means something."""
    pid: int
    started: int
    """Clock ticks after boot, so that a reused process id is not taken for the owner."""
    expires: int
    """Unix time in seconds; by then the sandbox has ended itself, whatever its owner did."""

    @classmethod
    def current(cls, lifetime_s: float) -> Owner:
        started = process_start(os.getpid())
        assert started is not None, "this process runs"
        return cls(this_host(), os.getpid(), started, int(time.time() + lifetime_s) + 60)

    @classmethod
    def parse(cls, text: str) -> Owner:
        """Read the form that `str` writes. Raises ValueError."""
        host, pid, started, expires = text.split(".")
        return cls(host, int(pid), int(started), int(expires))

    def __str__(self) -> str:
        return f"{self.host}.{self.pid}.{self.started}.{self.expires}"

    def gone(self) -> bool:
        """Whether the owner is certainly dead. For another host only the expiry time is known."""
        if time.time() > self.expires:
            return True
        return self.host == this_host() and process_start(self.pid) != self.started


def this_host() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    namespace = Path("/proc/self/ns/pid").readlink().name
    return boot + "-" + "".join(c for c in namespace if c.isdigit())


def process_start(pid: int) -> int | None:
    """Return a process's start time in clock ticks after boot; None when there is no such live process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def reap_processes() -> list[str]:
    """Kill helper processes, outside of sandboxes, whose owner is dead; return their names."""
    removed = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            rows = (folder / "environ").read_bytes().split(b"\0")
            text = next((row for row in rows if row.startswith(OWNER_VARIABLE.encode() + b"=")), None)
            if text is not None and Owner.parse(text.decode().partition("=")[2]).gone():
                os.kill(int(folder.name), signal.SIGKILL)
                removed.append(f"process {folder.name}")
        except (OSError, ValueError):
            continue  # gone meanwhile, another user's, or not a label of ours
    return removed


AT_ONCE = 8


def fork(backend: Backend, sandbox: Sandbox, count: int, *, timeout_s: float) -> list[Sandbox]:
    """Open `count` sandboxes of the same spec with the current files of `sandbox`, which stays usable.

    Later writes of one are invisible to all others. Raises what `snapshot` and `open` raise, and closes the
    forks made so far.
    """
    deadline = time.monotonic() + timeout_s
    content = sandbox.snapshot(timeout_s=timeout_s)

    def open_fork() -> Sandbox:
        return backend.open(sandbox.spec, timeout_s=deadline - time.monotonic(), content=content)

    opening: list[Future[Sandbox]] = []
    try:
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fork") as threads:
            opening += [threads.submit(open_fork) for _ in range(count)]
        return [opened.result() for opened in opening]
    except BaseException:
        for opened in opening:
            if opened.exception() is None:
                opened.result().close()
        raise
