"""An engine elsewhere, as `DOCKER_HOST` names it: everything goes over its TCP connection."""

import contextlib
import io
import socket
import tarfile
import threading
import time
from collections.abc import Iterator

import docker
import pytest

from sandboxes import Backend, Match, SandboxSpec, SandboxUnavailable
from sandboxes.base import Content
from sandboxes.docker.backend import DockerBackend

pytestmark = pytest.mark.docker


@pytest.fixture
def address() -> Iterator[str]:
    """Where a listener on loopback forwards every connection to the engine's socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def accept(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            near, far = listener.accept()[0], socket.socket(socket.AF_UNIX)
            far.connect("/var/run/docker.sock")
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=forward, args=(one, other), daemon=True).start()


def forward(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(1 << 16):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)


@pytest.fixture
def backend(
    docker_backend: Backend, address: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DockerBackend]:
    monkeypatch.setenv("DOCKER_HOST", address)
    made = DockerBackend()
    yield made
    made.close()


def archive(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def test_a_sandbox_of_an_engine_elsewhere_does_all_that_one_here_does(
    backend: DockerBackend, docker_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = Content("remote-engine", lambda: archive(first=b"1\n"))
    sandbox = backend.open(SandboxSpec(docker_image), timeout_s=60, content=content)
    sandbox.unpack(archive(second=b"two\n" * 200_000), ".", timeout_s=20)
    assert sandbox.exec("cat first; wc -l < second", timeout_s=20).stdout == "1\n200000\n"
    assert sandbox.exec("cat >&2; exit 3", stdin=b"x" * 1000, timeout_s=20).stderr == "x" * 1000
    assert sandbox.search("1", timeout_s=20, limit=1) == [Match("first", 1, "1")]
    sandbox.write("third", b"3", timeout_s=20)
    assert sandbox.read("second", timeout_s=20, limit=4) == b"two\n"
    known = {"first": "", "gone": ""}
    changes = sandbox.changes(".", known, timeout_s=20)
    assert (sorted(changes.written), changes.removed) == (["first", "second", "third"], ("gone",))
    sandbox.close()
    monkeypatch.delenv("DOCKER_HOST")
    engine, until = docker.APIClient(timeout=30), time.monotonic() + 20
    while any(row["Id"].startswith(sandbox.name.split()[1]) for row in engine.containers(all=True)):
        assert time.monotonic() < until, "its container outlived it"
        time.sleep(0.1)
    engine.close()


def test_a_way_to_reach_an_engine_that_cannot_carry_a_channel_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "ssh://somebody@somewhere")
    with pytest.raises(SandboxUnavailable, match=r"DOCKER_HOST=ssh://.* forward its socket") as caught:
        DockerBackend(timeout_s=2)
    assert "\n" not in str(caught.value)
