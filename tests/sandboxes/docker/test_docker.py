"""What is particular to Docker: how a container starts, is lost, and never stays behind."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import docker
import pytest

from sandboxes import Backend, SandboxLost, SandboxSpec, SandboxUnavailable, SandboxUnresponsive, connect
from sandboxes.backend import Owner
from sandboxes.docker.backend import DockerBackend
from sandboxes.docker.containers import OWNER_LABEL, container_config, is_left_over

pytestmark = pytest.mark.docker

CHILD = """
import sys, time
from sandboxes import SandboxSpec, connect
sandbox = connect("docker").open(SandboxSpec(sys.argv[1]), timeout_s=60)
print(sandbox.name.split()[1], flush=True)
sandbox.exec("sleep 600", timeout_s=600)
"""


def eventually(claim: Callable[[], bool], within_s: float = 20.0) -> bool:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if claim():
            return True
        time.sleep(0.1)
    return False


@pytest.fixture(scope="module")
def engine():
    client = docker.APIClient(timeout=30)
    yield client
    client.close()


def exists(engine: docker.APIClient, container: str) -> bool:
    return any(row["Id"].startswith(container) for row in engine.containers(all=True))


def test_a_container_vanishes_when_its_owner_is_killed(docker_image: str, engine) -> None:
    command = [sys.executable, "-c", CHILD, docker_image]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        container = child.stdout.readline().strip()
        assert exists(engine, container)
        os.kill(child.pid, signal.SIGKILL)
        child.wait(10)
    assert eventually(lambda: not exists(engine, container)), "the container outlived its owner"


def test_the_program_inside_has_a_user_of_its_own(docker_backend: Backend, docker_image: str) -> None:
    sandbox = docker_backend.open(SandboxSpec(docker_image), timeout_s=60)
    others = "for p in /proc/[0-9]*; do [ $p = /proc/$$ ] || grep -h ^Uid: $p/task/*/status; done"
    users = sandbox.exec(others, timeout_s=20).stdout.splitlines()
    kept = sandbox.exec("grep CapPrm /proc/1/status", timeout_s=20).stdout.split()
    sandbox.close()
    # Of the commands' user it only has the right to open files.
    assert len(users) > 8 and set(users) == {"Uid:\t65532\t65532\t65532\t1000"}
    assert int(kept[1], 16) == 1 << 5 | 1 << 7, "KILL and SETUID"


def test_a_container_ends_itself_after_its_lifetime(
    docker_backend: Backend, docker_image: str, engine
) -> None:
    sandbox = docker_backend.open(SandboxSpec(docker_image, lifetime_s=2.0), timeout_s=60)
    container = sandbox.name.split()[1]
    with pytest.raises(SandboxLost):
        sandbox.exec("sleep 60", timeout_s=60)
    assert eventually(lambda: not exists(engine, container))
    sandbox.close()


def test_a_container_that_is_taken_away_in_mid_call_is_lost(
    docker_backend: Backend, docker_image: str, engine
) -> None:
    sandbox = docker_backend.open(SandboxSpec(docker_image), timeout_s=60)
    started = time.monotonic()
    threading.Timer(0.5, lambda: engine.kill(sandbox.name.split()[1])).start()
    with pytest.raises(SandboxLost, match="gone"):
        sandbox.exec("sleep 60", timeout_s=60)
    assert time.monotonic() - started < 15
    with pytest.raises(SandboxLost):
        sandbox.read("x", timeout_s=5)
    sandbox.close()


def test_a_frozen_container_is_unresponsive_at_the_deadline(
    docker_backend: Backend, docker_image: str, engine
) -> None:
    sandbox = docker_backend.open(SandboxSpec(docker_image), timeout_s=60)
    engine.pause(sandbox.name.split()[1])
    started = time.monotonic()
    with pytest.raises(SandboxUnresponsive):
        sandbox.read("x", timeout_s=0.5)
    assert time.monotonic() - started < 5
    sandbox.close()
    assert eventually(lambda: not exists(engine, sandbox.name.split()[1]))


def test_reap_takes_what_dead_owners_left_and_nothing_else(
    docker_backend: Backend, docker_image: str, engine, undisturbed: Callable[[Callable[[], None]], None]
) -> None:
    def check() -> None:
        mine = docker_backend.open(SandboxSpec(docker_image), timeout_s=60)
        here = Owner.current(3600)
        dead = {
            "killed": Owner(here.host, here.pid, here.started - 1, here.expires),
            "expired elsewhere": Owner("another-host", 1, 1, 1),
        }
        alive = Owner("another-host", 1, 1, here.expires)

        def made(owner: Owner) -> str:
            return engine.create_container(docker_image, "true", labels={OWNER_LABEL: str(owner)})["Id"]

        left = {what: made(owner) for what, owner in dead.items()}
        other = made(alive)
        try:
            removed = docker_backend.reap()
            for what, container in left.items():
                assert f"container {container[:12]}" in removed, what
                assert not exists(engine, container), what
            assert exists(engine, other) and mine.exec("true", timeout_s=20).exit_code == 0
        finally:
            engine.remove_container(other)
            mine.close()

    undisturbed(check)


FROZEN = """
import sys, time
from sandboxes import SandboxSpec
from sandboxes.docker.backend import DockerBackend
sandbox = DockerBackend(lease_s=3.0).open(SandboxSpec(sys.argv[1]), timeout_s=60)
time.sleep(4)
print(sandbox.name.split()[1], sandbox.exec("echo alive", timeout_s=20).stdout, flush=True)
time.sleep(600)
"""


def test_a_lease_is_renewed_by_the_living_and_not_by_the_frozen(docker_image: str, engine) -> None:
    command = [sys.executable, "-c", FROZEN, docker_image]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        container, alive = child.stdout.readline().split()
        assert alive == "alive", "after more than its lease, in which nothing was asked of it"
        child.send_signal(signal.SIGSTOP)
        assert eventually(lambda: not exists(engine, container)), "the container waited for a frozen owner"
        child.kill()


def test_what_does_not_run_is_left_over_when_its_owner_is_elsewhere() -> None:
    elsewhere, here = Owner("boot-before", 1, 1, int(time.time()) + 3600), Owner.current(3600)

    def listed(owner: Owner, state: str, age_s: float) -> dict[str, object]:
        created = int(time.time() - age_s)
        return {"Labels": {OWNER_LABEL: str(owner)}, "State": state, "Created": created}

    now = time.time()
    assert is_left_over(listed(elsewhere, "exited", 600), now), "after power loss"
    assert is_left_over(listed(elsewhere, "created", 600), now), "its owner died before it could start"
    assert not is_left_over(listed(elsewhere, "created", 5), now), "it may be starting"
    assert not is_left_over(listed(elsewhere, "running", 600), now), "its owner may live"
    assert not is_left_over(listed(here, "exited", 600), now), "its owner lives"


def test_the_runtime_is_the_one_that_was_asked_for(docker_image: str, engine) -> None:
    backend = DockerBackend(runtime="runc")
    sandbox = backend.open(SandboxSpec(docker_image), timeout_s=60)
    assert engine.inspect_container(sandbox.name.split()[1])["HostConfig"]["Runtime"] == "runc"
    backend.close()


def test_a_runtime_that_the_engine_lacks_is_one_clear_line(
    docker_image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAYTHREE_OCI_RUNTIME", "no-such-runtime")
    backend = connect("docker")
    with pytest.raises(SandboxUnavailable, match="no-such-runtime") as caught:
        backend.open(SandboxSpec(docker_image), timeout_s=30)
    assert "\n" not in str(caught.value)
    backend.close()


def test_a_missing_image_is_one_clear_line(docker_backend: Backend) -> None:
    with pytest.raises(SandboxUnavailable, match="ensure_image") as caught:
        docker_backend.open(SandboxSpec("daythree/nothing:here"), timeout_s=20)
    assert "\n" not in str(caught.value)
    assert not docker_backend.has_image("daythree/nothing:here")


def test_closing_the_backend_closes_its_sandboxes(docker_image: str, engine) -> None:
    backend = DockerBackend()
    sandbox = backend.open(SandboxSpec(docker_image), timeout_s=60)
    backend.close()
    assert eventually(lambda: not exists(engine, sandbox.name.split()[1]))
    backend.close()


def test_without_an_engine_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    with pytest.raises(SandboxUnavailable, match=r"ensure-docker\.sh") as caught:
        connect("docker")
    assert "\n" not in str(caught.value)


def test_an_engine_that_does_not_answer_is_given_up_on(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "deaf.sock"))
        deaf.listen()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/deaf.sock")
        started = time.monotonic()
        with pytest.raises(SandboxUnavailable):
            connect("docker", timeout_s=1)
        assert time.monotonic() - started < 10


def test_a_network_is_the_one_that_was_named_and_only_for_those_that_have_one() -> None:
    owner = Owner.current(60)
    inside = container_config(SandboxSpec("image", network=True), owner, network="allowed")
    assert inside["HostConfig"]["NetworkMode"] == "allowed"
    outside = container_config(SandboxSpec("image"), owner, network="allowed")
    assert outside["HostConfig"]["NetworkMode"] == "none"
