"""`RemoteBackend`: the shared lifecycle of backends whose sandboxes run the program of `sandboxes.inside`."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ..base import Content, SandboxError, SandboxSpec, SandboxUnavailable
from ..disks.disks import Disks
from .channel import Channel, Stream
from .leases import LEASE_S, Renewals
from .sandbox import RemoteSandbox

ENDS_AT_ONCE = 8


@dataclass(frozen=True)
class Started:
    """A started first process that runs `bootstrap.SERVER_COMMAND`; `stream` is its standard streams."""

    name: str
    stream: Stream
    settings: dict[str, Any]
    """For the program inside (`sandbox.server_settings`)."""
    end: Callable[[], object]
    """Removes the resources made for the sandbox. Called once; does not raise."""
    ready: Callable[[float], None] = lambda _deadline: None
    """Work to finish, before the deadline, before the process reads its input."""
    disks: Callable[[float], Disks | None] = lambda _deadline: None
    """Finds disks that can be swapped, once the program inside runs; None: content travels as archives."""


class RemoteBackend(ABC):
    """Opens `RemoteSandbox`es. A subclass gives `name`, `_start`, `reap` and the methods about images."""

    def __init__(self, *, lease_s: float = LEASE_S) -> None:
        self._renewals = Renewals(lease_s)
        self._lock = threading.Lock()
        self._open: set[RemoteSandbox] = set()

    @abstractmethod
    def _start(self, spec: SandboxSpec, deadline: float) -> Started:
        """Start a first process. Raises `SandboxUnavailable`, leaving nothing behind."""

    def open(self, spec: SandboxSpec, *, timeout_s: float, content: Content | None = None) -> RemoteSandbox:
        deadline = time.monotonic() + timeout_s
        sandbox = self._open_blank(spec, deadline)
        if content is not None:
            try:
                sandbox.lay(content, timeout_s=deadline - time.monotonic())
            except BaseException:
                sandbox.close()
                raise
        return sandbox

    def expect(self, spec: SandboxSpec, count: int = 1) -> None:  # noqa: B027
        """No-op: only a pool keeps sandboxes idle."""

    def close(self) -> None:
        """Close every open sandbox. Idempotent."""
        with self._lock:
            left = list(self._open)
        with ThreadPoolExecutor(ENDS_AT_ONCE, thread_name_prefix="sandbox ends") as threads:
            list(threads.map(RemoteSandbox.shut, left))

    def _open_blank(self, spec: SandboxSpec, deadline: float) -> RemoteSandbox:
        started = self._start(spec, deadline)
        channel = Channel(started.stream, started.name)

        def end() -> None:
            self._renewals.remove(channel)
            with self._lock:
                self._open.discard(sandbox)
            started.end()

        sandbox = RemoteSandbox(spec, started.name, channel, end)
        with self._lock:
            self._open.add(sandbox)
        try:
            started.ready(deadline)
            channel.start(started.settings, timeout_s=deadline - time.monotonic())
            sandbox.own(started.disks(deadline))
        except BaseException as error:
            sandbox.close()
            if isinstance(error, SandboxError | OSError):
                raise SandboxUnavailable(f"a sandbox of {spec.image} did not come up: {error}") from None
            raise
        self._renewals.add(channel)
        return sandbox
