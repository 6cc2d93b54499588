"""The backend contract: opens sandboxes, and removes what dead runs left behind."""

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
    """One way to isolate. Methods may be called from several threads at once."""

    name: str
    """A short name, such as `docker`."""

    def open(self, spec: SandboxSpec, *, timeout_s: float, content: Content | None = None) -> Sandbox:
        """Start a sandbox with `content` in it. Raises `SandboxUnavailable`, also at the deadline."""
        ...

    def expect(self, spec: SandboxSpec, count: int = 1) -> None:
        """Announce that `count` of this spec will be opened soon; does nothing where none are kept idle."""
        ...

    def ensure_image(self, recipe: ImageRecipe, *, timeout_s: float, progress: Progress = silent) -> str:
        """Return `recipe.ref`, building what is missing. Raises `SandboxUnavailable`."""
        ...

    def has_image(self, ref: str) -> bool: ...

    def reap(self) -> list[str]:
        """Remove what dead runs left; return its names."""
        ...

    def close(self) -> None:
        """Close every sandbox that is still open, and let go of the engine. Safe to call twice."""
        ...


@dataclass(frozen=True)
class Owner:
    """The process a sandbox belongs to, so that anybody can tell later whether it is alive."""

    host: str
    """Boot id and PID namespace: within these a process id means something."""
    pid: int
    started: int
    """Clock ticks after boot, so that a reused process id is not taken for the owner."""
    expires: int
    """Unix time, seconds, after which the sandbox has ended itself whoever owns it."""

    @classmethod
    def current(cls, lifetime_s: float) -> Owner:
        started = process_start(os.getpid())
        assert started is not None, "this process runs"
        return cls(this_host(), os.getpid(), started, int(time.time() + lifetime_s) + 60)

    @classmethod
    def parse(cls, text: str) -> Owner:
        """Read what `str` wrote. Raises ValueError."""
        host, pid, started, expires = text.split(".")
        return cls(host, int(pid), int(started), int(expires))

    def __str__(self) -> str:
        return f"{self.host}.{self.pid}.{self.started}.{self.expires}"

    def gone(self) -> bool:
        """Whether nobody can be using it any more. Of another host only the expiry is known."""
        if time.time() > self.expires:
            return True
        return self.host == this_host() and process_start(self.pid) != self.started


def this_host() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    namespace = Path("/proc/self/ns/pid").readlink().name
    return boot + "-" + "".join(c for c in namespace if c.isdigit())


def process_start(pid: int) -> int | None:
    """When a process started, in clock ticks after boot; None when there is no such live process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def reap_processes() -> list[str]:
    """Kill processes outside of sandboxes whose dead owner started them for one; return their names."""
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
    """Open `count` sandboxes of the same spec with the files that `sandbox` has now; it goes on as well.

    None of them sees what another writes from here on. Raises what `snapshot` and `open` raise, and leaves no
    fork behind then.
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
