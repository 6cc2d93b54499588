"""The engine's bad days, by a proxy in front of it: each is a typed error, in time, and leaves nothing."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
import pytest

from sandboxes import Backend, SandboxError, SandboxLost, SandboxSpec, SandboxUnavailable, SandboxUnresponsive
from sandboxes.docker.backend import DockerBackend
from sandboxes.pool.pool import Pool

pytestmark = pytest.mark.docker

ENGINE = "/var/run/docker.sock"


class Proxy:
    """Forwards connections to the engine, until it is told to do worse."""

    def __init__(self, path: Path) -> None:
        self.address = f"unix://{path}"
        self.running = threading.Event()
        self.running.set()
        self.cut_after = float("inf")
        """Bytes from the engine, of all connections together, after which these are cut."""
        self.answers: dict[bytes, bytes] = {}
        """Requests that contain the key get this instead of the engine's answer."""
        self._ends: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, far = self._listener.accept()[0], socket.socket(socket.AF_UNIX)
                far.connect(ENGINE)
                self._ends += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._forward, args=(one, other, one is far), daemon=True).start()

    def _forward(self, one: socket.socket, other: socket.socket, from_engine: bool) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 14):
                self.running.wait()
                planned = [text for key, text in self.answers.items() if not from_engine and key in data]
                if planned:
                    one.sendall(planned[0])
                    continue
                if from_engine:
                    self.cut_after -= len(data)
                    if self.cut_after < 0:
                        self.cut()
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """As a daemon that is gone: nobody listens, every connection is cut."""
        self.running.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    made = Proxy(tmp_path / "engine.sock")
    yield made
    with contextlib.suppress(OSError):
        made.stop()


@pytest.fixture
def backend(
    docker_backend: Backend, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DockerBackend]:
    monkeypatch.setenv("DOCKER_HOST", proxy.address)
    made = DockerBackend()
    yield made
    proxy.running.set()
    made.close()


@pytest.fixture
def gone() -> Iterator[Callable[[str], bool]]:
    """Whether the engine, asked directly, has got rid of a sandbox's container."""
    engine = docker.APIClient(base_url=f"unix://{ENGINE}", timeout=30)

    def is_gone(name: str) -> bool:
        until = time.monotonic() + 20
        while any(row["Id"].startswith(name.split()[1]) for row in engine.containers(all=True)):
            if time.monotonic() > until:
                return False
            time.sleep(0.1)
        return True

    yield is_gone
    engine.close()


def fails(
    kind: type[SandboxError], call: Callable[[], object], within_s: float, says: str | None = None
) -> None:
    """Assert that a call raises this, in one line, in time."""
    started = time.monotonic()
    with pytest.raises(kind, match=says) as caught:
        call()
    assert time.monotonic() - started < within_s
    assert "\n" not in str(caught.value)


def test_a_channel_cut_in_mid_frame_is_lost(
    backend: DockerBackend, docker_image: str, proxy: Proxy, gone: Callable[[str], bool]
) -> None:
    sandbox = backend.open(SandboxSpec(docker_image), timeout_s=60)
    sandbox.write("big", b"x" * 1_000_000, timeout_s=20)
    proxy.cut_after = 100_000
    fails(SandboxLost, lambda: sandbox.read("big", timeout_s=20), 10, "channel closed")
    fails(SandboxLost, lambda: sandbox.exec("true", timeout_s=20), 1)
    sandbox.close()
    assert gone(sandbox.name)


def test_an_engine_that_stalls_is_unresponsive_and_closing_does_not_wait_for_it(
    backend: DockerBackend, docker_image: str, proxy: Proxy, gone: Callable[[str], bool]
) -> None:
    sandbox = backend.open(SandboxSpec(docker_image), timeout_s=60)
    proxy.running.clear()
    fails(SandboxUnresponsive, lambda: sandbox.read("x", timeout_s=0.5), 5)
    fails(SandboxUnavailable, lambda: backend.open(SandboxSpec(docker_image), timeout_s=1), 5)
    started = time.monotonic()
    closing = threading.Thread(target=sandbox.close)
    closing.start()
    closing.join(10)
    assert not closing.is_alive() and time.monotonic() - started < 10
    proxy.running.set()
    assert gone(sandbox.name), "its channel was closed"


def test_a_daemon_that_is_gone_is_lost_and_unavailable(
    backend: DockerBackend, docker_image: str, proxy: Proxy, gone: Callable[[str], bool]
) -> None:
    sandbox = backend.open(SandboxSpec(docker_image), timeout_s=60)
    waiting: list[BaseException] = []

    def wait() -> None:
        try:
            sandbox.exec("sleep 60", timeout_s=60)
        except SandboxError as error:
            waiting.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.3)
    proxy.stop()
    thread.join(10)
    assert [type(error) for error in waiting] == [SandboxLost]
    fails(SandboxUnavailable, lambda: backend.open(SandboxSpec(docker_image), timeout_s=5), 5)
    fails(SandboxUnavailable, backend.reap, 5)
    sandbox.close()
    assert gone(sandbox.name)


def test_an_engine_whose_disk_is_full_says_so(
    backend: DockerBackend, docker_image: str, proxy: Proxy
) -> None:
    body = b'{"message":"write /var/lib/engine/tmp: no space left on device"}'
    head = (
        f"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    )
    proxy.answers[b"/containers/create"] = head.encode() + b"\r\n\r\n" + body
    call = lambda: backend.open(SandboxSpec(docker_image), timeout_s=20)  # noqa: E731
    fails(SandboxUnavailable, call, 5, "500 .*no space left on device")


def test_an_image_that_was_removed_meanwhile_says_what_to_do(
    backend: DockerBackend, docker_image: str
) -> None:
    engine = docker.APIClient(base_url=f"unix://{ENGINE}", timeout=30)
    engine.tag(docker_image, "daythree/removed", "now")
    assert backend.has_image("daythree/removed:now")
    engine.remove_image("daythree/removed:now")
    engine.close()
    call = lambda: backend.open(SandboxSpec("daythree/removed:now"), timeout_s=20)  # noqa: E731
    fails(SandboxUnavailable, call, 5, "ensure_image")


def test_a_pool_replaces_what_an_engine_took_with_it(
    backend: DockerBackend, docker_image: str, proxy: Proxy
) -> None:
    pool = Pool(backend, ready=2)
    pool.expect(SandboxSpec(docker_image), 2)
    assert pool.settle(timeout_s=60) and pool.stats().idle == 2
    proxy.cut()
    time.sleep(1.1)
    sandbox = pool.open(SandboxSpec(docker_image), timeout_s=60)
    assert sandbox.exec("echo here", timeout_s=20).stdout == "here\n"
    assert pool.stats().warm == 0
    pool.close()
    assert pool.stats().in_use == 1, "its user has it still, though it has ended"
    with pytest.raises(SandboxLost):
        sandbox.exec("true", timeout_s=20)
    sandbox.close()
    assert pool.stats().started == pool.stats().thrown_away


def test_callers_of_a_pool_outwait_an_engine_that_stalls(
    backend: DockerBackend, docker_image: str, proxy: Proxy
) -> None:
    pool = Pool(backend, start_s=5.0)
    proxy.running.clear()
    spec = SandboxSpec(docker_image)
    with ThreadPoolExecutor(1) as threads:
        patient = threads.submit(pool.open, spec, timeout_s=60)
        fails(SandboxUnavailable, lambda: pool.open(spec, timeout_s=1), 4)
        time.sleep(5)
        proxy.running.set()
        assert patient.result().exec("echo here", timeout_s=20).stdout == "here\n"
    assert pool.stats().failed > 0
    pool.close()
