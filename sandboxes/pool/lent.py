"""`LentSandbox`: a sandbox in the hands of one user, who returns it by closing it.

What is behind it may go to the next user, so a handle that was closed reaches nothing any more: a late call,
by a thread of an old episode, is told that its sandbox is lost.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from ..base import Sandbox, SandboxError, SandboxLost

P = ParamSpec("P")
R = TypeVar("R")


class Lender(Protocol):
    """Whose the sandboxes are. Neither method raises or waits."""

    def take_back(self, sandbox: Sandbox, *, sound: bool) -> None:
        """Get a sandbox back, which may serve again where it is `sound`."""
        ...

    def exchange(self, old: Sandbox, fresh: Sandbox) -> None:
        """Hear that `fresh` is what `old` became, in the same hands."""
        ...


def passed_on(method: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], R]:
    """The same method, of the sandbox behind the handle."""
    name = method.__name__

    @functools.wraps(method)
    def call(self: LentSandbox, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.in_use() as sandbox:
            return getattr(sandbox, name)(*args, **kwargs)

    return call


class LentSandbox:
    """See the module. Made by `Pool.open`."""

    def __init__(self, sandbox: Sandbox, lender: Lender) -> None:
        self.spec = sandbox.spec
        self.name: str = getattr(sandbox, "name", "sandbox")
        self._sandbox = sandbox
        self._lender = lender
        self._lock = threading.Lock()
        self._calls = 0
        self._sound = True
        self._closed = False

    exec = passed_on(Sandbox.exec)
    read = passed_on(Sandbox.read)
    write = passed_on(Sandbox.write)
    listdir = passed_on(Sandbox.listdir)
    unpack = passed_on(Sandbox.unpack)
    lay = passed_on(Sandbox.lay)
    changes = passed_on(Sandbox.changes)
    search = passed_on(Sandbox.search)
    snapshot = passed_on(Sandbox.snapshot)
    ping = passed_on(Sandbox.ping)

    def recycled(self, *, timeout_s: float) -> LentSandbox | None:
        """The sandbox behind, blank, in a new handle; None when it could not be proven blank, and is gone."""
        if not self._end():
            return None
        fresh = self._sandbox.recycled(timeout_s=timeout_s) if self._sound else None
        if fresh is None:
            self._lender.take_back(self._sandbox, sound=False)
            return None
        self._lender.exchange(self._sandbox, fresh)
        return LentSandbox(fresh, self._lender)

    def close(self) -> None:
        if self._end():
            self._lender.take_back(self._sandbox, sound=self._sound)

    def _end(self) -> bool:
        """Let no further call through; whether this ended it. What is still being called is not sound."""
        with self._lock:
            if self._closed:
                return False
            self._closed = True
            self._sound = self._sound and not self._calls
            return True

    @contextmanager
    def in_use(self) -> Iterator[Sandbox]:
        """The sandbox behind, for one call."""
        with self._lock:
            if self._closed:
                raise SandboxLost(f"{self.name} was closed")
            self._calls += 1
        try:
            yield self._sandbox
        except SandboxError:
            self._sound = False
            raise
        finally:
            with self._lock:
                self._calls -= 1
