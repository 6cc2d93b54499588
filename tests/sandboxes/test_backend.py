"""Choosing a backend, and telling whether an owner is alive."""

import os
import subprocess
import time

import pytest

from sandboxes import Backend, SandboxSpec, SandboxUnavailable, UnknownNameError, connect
from sandboxes.backend import Owner, process_start, this_host
from sandboxes.fake import FakeBackend


def backend_of_ones_own(*, timeout_s: float) -> Backend:
    assert timeout_s > 0
    return FakeBackend()


def no_backend(*, timeout_s: float) -> str:
    return f"for {timeout_s} s"


def test_an_unknown_backend_is_one_clear_line() -> None:
    with pytest.raises(UnknownNameError, match="use auto, docker, bubblewrap, fake, or module:attribute"):
        connect("podman")


def test_the_fake_and_a_backend_of_ones_own_are_found_by_name() -> None:
    for name in ("fake", f"{__name__}:backend_of_ones_own"):
        pool = connect(name)
        assert pool.name == "fake"
        pool.open(SandboxSpec("any"), timeout_s=5).close()
        pool.close()


def test_a_factory_that_returns_no_backend_is_one_clear_line() -> None:
    with pytest.raises(SandboxUnavailable, match=r"returned str, which is no sandboxes\.Backend"):
        connect(f"{__name__}:no_backend")


@pytest.mark.docker
def test_auto_prefers_an_engine_that_answers(docker_backend: Backend) -> None:
    backend = connect()
    assert backend.name == "docker" == docker_backend.name
    backend.close()


@pytest.mark.bubblewrap
def test_auto_falls_back_to_bubblewrap(bubblewrap_backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    backend = connect()
    assert backend.name == "bubblewrap" == bubblewrap_backend.name
    backend.close()


def test_an_owner_is_known_by_more_than_its_number() -> None:
    owner = Owner.current(60)
    assert Owner.parse(str(owner)) == owner and not owner.gone()
    assert Owner(owner.host, owner.pid, owner.started - 1, owner.expires).gone(), "a reused process id"
    assert Owner(owner.host, owner.pid, owner.started, int(time.time()) - 1).gone(), "expired"
    assert not Owner("elsewhere", 1, 1, owner.expires).gone(), "what cannot be known is left alone"


def test_a_dead_process_is_gone_before_it_is_waited_for() -> None:
    process = subprocess.Popen(["true"])
    until = time.monotonic() + 10
    while process_start(process.pid) is not None and time.monotonic() < until:
        time.sleep(0.01)
    assert Owner(this_host(), process.pid, 1, int(time.time()) + 60).gone()
    process.wait(10)
    assert process_start(os.getpid()) is not None


def test_the_fake_is_a_backend() -> None:
    assert isinstance(FakeBackend(), Backend)
