"""Several sandboxes at once, and none when nobody waits for them any more."""

from __future__ import annotations

import threading
import time

import pytest

from envs.parallel import MOST, StoppableBackend, Stopped, fitting_workers, in_order
from sandboxes import Backend
from sandboxes.base import Content, ExecResult, SandboxLost, SandboxSpec
from sandboxes.fake import FakeBackend, FakeSandbox

SPEC = SandboxSpec(image="any")


class EndlessSandbox(FakeSandbox):
    """A sandbox whose commands run until it is closed."""

    def exec(self, command, **_) -> ExecResult:  # pyright: ignore
        deadline = time.monotonic() + 20
        while not self.closed and time.monotonic() < deadline:
            time.sleep(0.01)
        raise SandboxLost("it was closed")


class EndlessBackend(FakeBackend):
    def open(self, spec: SandboxSpec, *, timeout_s: float, content: Content | None = None) -> FakeSandbox:
        sandbox = EndlessSandbox(spec)
        self.opened.append(sandbox)
        return sandbox


def test_closing_ends_work_in_the_middle_of_a_command() -> None:
    backend = EndlessBackend()
    at_work = threading.Event()

    def work(lent: Backend, number: int) -> int:
        if number:
            sandbox = lent.open(SPEC, timeout_s=1)
            at_work.set()
            sandbox.exec("forever", timeout_s=20)
        return number

    results = in_order(work, range(3), backend=backend, workers=2)
    assert next(results) == 0
    assert at_work.wait(10)
    started = time.monotonic()
    results.close()
    assert time.monotonic() - started < 10
    assert all(sandbox.closed for sandbox in backend.opened)


def test_a_stopped_backend_opens_nothing_more() -> None:
    backend = FakeBackend()
    lent = StoppableBackend(backend)
    lent.open(SPEC, timeout_s=1)
    lent.close()
    with pytest.raises(Stopped):
        lent.open(SPEC, timeout_s=1)
    assert [sandbox.closed for sandbox in backend.opened] == [True]


def test_what_work_raises_ends_it_all() -> None:
    def work(lent: Backend, number: int) -> int:
        lent.open(SPEC, timeout_s=1)
        if number == 1:
            raise ValueError("one too many")
        return number

    backend = FakeBackend()
    results = in_order(work, range(100), backend=backend, workers=2)
    assert next(results) == 0
    with pytest.raises(ValueError, match="one too many"):
        next(results)
    assert all(sandbox.closed for sandbox in backend.opened)
    assert len(backend.opened) < 10


def test_no_more_sandboxes_run_than_processors_and_memory_allow_and_always_one() -> None:
    assert fitting_workers(SandboxSpec(image="any", memory_mb=10**9)) == 1
    assert fitting_workers(SandboxSpec(image="any", cpus=10**6)) == 1
    assert 1 <= fitting_workers(SPEC) <= fitting_workers(SandboxSpec(image="any", cpus=0.25)) <= MOST
