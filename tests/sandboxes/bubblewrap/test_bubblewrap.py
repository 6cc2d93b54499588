"""What is particular to bubblewrap: it dies with its owner, not with a thread, and leaves no group."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sandboxes import Backend, Sandbox, SandboxLost, SandboxSpec, SandboxUnavailable
from sandboxes.backend import Owner, process_start
from sandboxes.bubblewrap.backend import BubblewrapBackend
from sandboxes.bubblewrap.cgroups import Cgroup
from sandboxes.conformance.attacks import no_signal_reaches_the_program_inside
from sandboxes.conformance.commands import Check, small_spec
from sandboxes.conformance.limits import LIMITS

pytestmark = pytest.mark.bubblewrap

CHILD = """
import sys
from sandboxes import SandboxSpec, connect
sandbox = connect("bubblewrap").open(SandboxSpec(sys.argv[1]), timeout_s=60)
print(sandbox.name.split()[-1], flush=True)
sandbox.exec("sleep 600", timeout_s=600)
"""


FORK_BOMBS = [check for check in LIMITS if "fork_bomb" in check.__name__]


def eventually(claim: Callable[[], bool], within_s: float = 20.0) -> bool:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if claim():
            return True
        time.sleep(0.1)
    return False


def groups() -> set[str]:
    while True:
        try:
            return {folder.name for folder in Path("/sys/fs/cgroup").glob("**/daythree-*")}
        except FileNotFoundError:  # a group of another test went away meanwhile
            continue


def test_it_dies_with_its_owner_and_reap_takes_the_group(
    bubblewrap_backend: Backend, bubblewrap_image: str
) -> None:
    command = [sys.executable, "-c", CHILD, bubblewrap_image]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        pid = int(child.stdout.readline())
        assert process_start(pid) is not None
        os.kill(child.pid, signal.SIGKILL)
        child.wait(10)
    assert eventually(lambda: process_start(pid) is None), "the sandbox outlived its owner"
    bubblewrap_backend.reap()
    assert not [name for name in groups() if f".{child.pid}." in name]


def test_it_outlives_the_thread_that_opened_it(bubblewrap_backend: Backend, bubblewrap_image: str) -> None:
    opened: list[Sandbox] = []
    spec = SandboxSpec(bubblewrap_image)
    thread = threading.Thread(target=lambda: opened.append(bubblewrap_backend.open(spec, timeout_s=60)))
    thread.start()
    thread.join(60)
    time.sleep(0.3)
    assert opened[0].exec("echo here", timeout_s=20).stdout == "here\n"
    opened[0].close()


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user can be mapped only once")
def test_neither_commands_nor_the_program_inside_are_the_hosts_root(
    bubblewrap_backend: Backend, bubblewrap_image: str
) -> None:
    sandbox = bubblewrap_backend.open(SandboxSpec(bubblewrap_image), timeout_s=60)
    # First let the process end that started this command, which may be a command's user, too.
    others = "sleep 0.3; for p in /proc/[0-9]*; do [ $p = /proc/$$ ] || grep -h ^Uid: $p/task/*/status; done"
    users = sandbox.exec(others, timeout_s=20).stdout.splitlines()
    maps = sandbox.exec("cat /proc/self/uid_map", timeout_s=20).stdout.split()
    sandbox.close()
    assert len(users) > 8 and set(users) == {"Uid:\t65532\t65532\t65532\t1000"}
    commands, template, program = 1_000, 65_531, 65_532
    outside = {int(maps[start]): int(maps[start + 1]) for start in range(3, len(maps), 3)}
    assert outside == {user: 1_900_000_000 + user for user in (commands, template, program)}


def test_without_root_there_is_one_user_and_the_sandbox_holds(
    bubblewrap_backend: Backend, bubblewrap_image: str
) -> None:
    backend = BubblewrapBackend(separate_users=False)
    sandbox = backend.open(SandboxSpec(bubblewrap_image), timeout_s=60)
    assert len(sandbox.exec("cat /proc/self/uid_map", timeout_s=20).stdout.split()) == 3
    no_signal_reaches_the_program_inside(sandbox)
    backend.close()


def test_it_ends_itself_after_its_lifetime(bubblewrap_backend: Backend, bubblewrap_image: str) -> None:
    sandbox = bubblewrap_backend.open(SandboxSpec(bubblewrap_image, lifetime_s=1.0), timeout_s=60)
    with pytest.raises(SandboxLost):
        sandbox.exec("sleep 60", timeout_s=60)
    sandbox.close()


def test_reap_kills_what_is_left_in_the_group_of_a_dead_owner(
    bubblewrap_backend: Backend, undisturbed: Callable[[Callable[[], None]], None]
) -> None:
    def check() -> None:
        here = Owner.current(3600)
        dead = Owner(here.host, here.pid, here.started - 1, here.expires)
        group = Cgroup.create(f"{dead}.1", memory_bytes=64 << 20, pids=8, cpus=1.0)
        if group is None:
            pytest.skip("control groups cannot be made here")
        process = subprocess.Popen(group.entering(["sleep", "60"]))
        assert eventually(lambda: str(process.pid) in (group.folders[0] / "cgroup.procs").read_text())
        assert f"control group daythree-{dead}.1" in bubblewrap_backend.reap()
        assert process.wait(10) == -signal.SIGKILL
        assert not any(folder.exists() for folder in group.folders)

    undisturbed(check)


def test_closing_leaves_no_control_group(bubblewrap_image: str) -> None:
    backend = BubblewrapBackend()
    sandbox = backend.open(SandboxSpec(bubblewrap_image), timeout_s=60)
    backend.close()
    with pytest.raises(SandboxLost):
        sandbox.exec("true", timeout_s=5)
    assert not [name for name in groups() if f".{os.getpid()}." in name]


def test_another_working_directory_can_be_used(bubblewrap_backend: Backend, bubblewrap_image: str) -> None:
    sandbox = bubblewrap_backend.open(SandboxSpec(bubblewrap_image, workdir="/testbed"), timeout_s=60)
    assert sandbox.exec("pwd; touch x", timeout_s=20).stdout == "/testbed\n"
    assert sandbox.listdir(".", timeout_s=20) == ["x"]
    sandbox.close()


def test_commands_find_no_signal_ignored_though_their_backend_ignores_some(
    bubblewrap_backend: Backend, bubblewrap_image: str
) -> None:
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGUSR1)}
    try:
        sandbox = bubblewrap_backend.open(SandboxSpec(bubblewrap_image), timeout_s=60)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    ignored = int(sandbox.exec("sed -n 's/SigIgn://p' /proc/self/status", timeout_s=20).stdout, 16)
    sandbox.close()
    assert ignored & 0x7FFFFFFF == 0, hex(ignored)  # the C library keeps 32 and 33 for itself


def test_a_missing_image_is_one_clear_line(bubblewrap_backend: Backend) -> None:
    with pytest.raises(SandboxUnavailable, match="ensure_image"):
        bubblewrap_backend.open(SandboxSpec("daythree/nothing:here"), timeout_s=20)


def test_a_sandbox_that_cannot_start_says_why(bubblewrap_backend: Backend, bubblewrap_image: str) -> None:
    before = groups()
    spec = SandboxSpec(bubblewrap_image, workdir="/usr/not/there")
    with pytest.raises(SandboxUnavailable, match="bwrap: "):
        bubblewrap_backend.open(spec, timeout_s=20)
    assert not [name for name in groups() - before if f".{os.getpid()}." in name]


def test_no_descriptor_stays_open(bubblewrap_backend: Backend, bubblewrap_image: str) -> None:
    def after_two() -> int:
        bubblewrap_backend.open(SandboxSpec(bubblewrap_image), timeout_s=60).close()
        with pytest.raises(SandboxUnavailable):
            bubblewrap_backend.open(SandboxSpec(bubblewrap_image, workdir="/usr/not/there"), timeout_s=20)
        return len(list(Path("/proc/self/fd").iterdir()))

    assert after_two() == after_two()


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's processes are bounded by its number")
def test_what_nothing_would_bound_is_not_started(bubblewrap_backend: Backend, bubblewrap_image: str) -> None:
    backend = BubblewrapBackend(control_groups=False)
    with pytest.raises(SandboxUnavailable, match="nothing here bounds the processes"):
        backend.open(SandboxSpec(bubblewrap_image, user="0:0"), timeout_s=20)
    backend.close()


@pytest.mark.parametrize("check", FORK_BOMBS)
def test_without_control_groups_processes_are_bounded(
    bubblewrap_backend: Backend, bubblewrap_image: str, check: Check
) -> None:
    backend = BubblewrapBackend(control_groups=False)
    check(backend.open(small_spec(bubblewrap_image), timeout_s=60))
    backend.close()


def test_without_control_groups_each_process_is_bounded(
    bubblewrap_backend: Backend, bubblewrap_image: str
) -> None:
    backend = BubblewrapBackend(control_groups=False)
    sandbox = backend.open(SandboxSpec(bubblewrap_image, memory_mb=200), timeout_s=60)
    assert sandbox.exec("ulimit -v", timeout_s=20).stdout.strip() == str(200 << 10)
    assert sandbox.exec(["no-such-program"], timeout_s=20).exit_code == 127
    hog = sandbox.exec(["python3", "-c", "bytearray(400 << 20)"], timeout_s=20)
    assert "MemoryError" in hog.stderr, hog
    backend.close()
