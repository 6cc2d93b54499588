"""Checks that limits are enforced and reported. Each gets a fresh sandbox of `SPEC_LIMITS`."""

from __future__ import annotations

import time

from ..base import Limit, Sandbox
from .commands import SOON_S, Check, refuses

BOMB_S = 1.5
FORK_BOMB = """
import os, sys, time
if os.fork() == 0:
    while True:
        try: os.fork()
        except OSError: pass
time.sleep(float(sys.argv[1]))
"""
HOG = "kept = []\nwhile True: kept.append(bytearray(8 << 20))"
OPENER = "kept = []\nwhile True: kept.append(open('/dev/null'))"
BURNER = """
import os, time
for _ in range(4):
    if os.fork() == 0:
        until = time.monotonic() + 1
        while time.monotonic() < until: pass
        os._exit(0)
for _ in range(4): os.wait()
times = os.times()
print(times.children_user + times.children_system)
"""
WRITABLE = "find / ( -path /proc -o -path /sys ) -prune -o -writable ( -type d -o -exec test -f {} ; ) -print"


def well(sandbox: Sandbox) -> None:
    """Assert that a sandbox works, and that no process is left in it."""
    done = sandbox.exec("echo well", timeout_s=SOON_S)
    assert (done.exit_code, done.stdout, done.limit) == (0, "well\n", None), done
    assert done.background == (), done


def a_fork_bomb_is_bounded(sandbox: Sandbox) -> None:
    done = sandbox.exec(["python3", "-c", FORK_BOMB, "60"], timeout_s=BOMB_S)
    assert done.timed_out and done.limit == "pids", done
    assert done.duration_s < BOMB_S + 5, done
    well(sandbox)


def a_fork_bomb_left_behind_does_not_stay(sandbox: Sandbox) -> None:
    done = sandbox.exec(["python3", "-c", FORK_BOMB, "1"], timeout_s=SOON_S)
    assert done.exit_code == 0 and done.limit == "pids", done
    well(sandbox)


def a_fork_bomb_that_waits_does_not_stop_the_next_command(sandbox: Sandbox) -> None:
    late = 'sleep 0.3; exec python3 -c "$0" 60'
    laid = sandbox.exec(["sh", "-c", f"({late}) >/dev/null 2>&1 &", FORK_BOMB], timeout_s=SOON_S)
    assert laid.background, "it is there, and is named"
    until = time.monotonic() + SOON_S
    while len([name for name in sandbox.listdir("/proc", timeout_s=SOON_S) if name[0].isdigit()]) < 60:
        assert time.monotonic() < until, "the bomb did not go off"
        time.sleep(0.05)
    for _ in range(3):
        sandbox.write("file", b"x", timeout_s=SOON_S)
        assert sandbox.read("file", timeout_s=SOON_S) == b"x"
    done = sandbox.exec("echo ran", timeout_s=SOON_S)
    assert (done.stdout, done.limit) == ("ran\n", "pids"), done
    well(sandbox)


def memory_is_bounded(sandbox: Sandbox) -> None:
    done = sandbox.exec(["python3", "-c", HOG], timeout_s=SOON_S)
    assert done.exit_code not in (None, 0) and done.limit == "memory", done
    well(sandbox)


def every_disk_is_bounded(sandbox: Sandbox) -> None:
    sandbox.write("kept", b"before", timeout_s=SOON_S)
    for folder in (sandbox.spec.workdir, "/tmp", "/dev/shm"):
        done = sandbox.exec(f"head -c 2G /dev/zero > {folder}/bomb", timeout_s=SOON_S)
        assert done.exit_code not in (None, 0) and done.limit == "disk", (folder, done)
    assert sandbox.exec("true", timeout_s=SOON_S).limit is None, "that they are full already is no news"
    refuses(OSError, lambda: sandbox.write("more", b"x" * 1_000_000, timeout_s=SOON_S))
    refuses(OSError, lambda: sandbox.write("kept", b"x" * 1_000_000, timeout_s=SOON_S))
    assert sandbox.read("kept", timeout_s=SOON_S) == b"before", "a change that has no room destroys nothing"
    sandbox.exec("rm bomb /tmp/bomb /dev/shm/bomb", timeout_s=SOON_S)
    sandbox.write("more", b"x" * 1_000_000, timeout_s=SOON_S)


def nothing_but_the_disks_can_be_written(sandbox: Sandbox) -> None:
    found = sandbox.exec(WRITABLE.split(), timeout_s=SOON_S).stdout.split()
    disks = (
        sandbox.spec.workdir,
        "/tmp",
        "/dev/shm",
        "/dev/mqueue",
        "/dev/pts",
    )  # the last two hold no files
    assert [path for path in found if not path.startswith(disks)] == [], found
    assert sandbox.spec.workdir in found, found


def open_files_are_bounded(sandbox: Sandbox) -> None:
    done = sandbox.exec(["python3", "-c", OPENER], timeout_s=SOON_S)
    assert done.exit_code == 1 and done.limit == "files", done
    raised = sandbox.exec("ulimit -n 100000 && ulimit -n", timeout_s=SOON_S)
    assert raised.exit_code != 0, raised
    well(sandbox)


def processor_time_is_shared_out(sandbox: Sandbox) -> None:
    done = sandbox.exec(["python3", "-c", BURNER], timeout_s=SOON_S)
    used_s = float(done.stdout)
    assert used_s < 1.6 * sandbox.spec.cpus, f"four processes took {used_s} s of processor time in one second"


def time_and_output_are_told(sandbox: Sandbox) -> None:
    limits: list[Limit | None] = [
        sandbox.exec("echo a; sleep 60", timeout_s=0.2).limit,
        sandbox.exec("head -c 20000 /dev/zero", output_limit=1_000, timeout_s=SOON_S).limit,
        sandbox.exec("exit 9", timeout_s=SOON_S).limit,
    ]
    assert limits == ["time", "output", None], limits


def what_is_left_running_is_named(sandbox: Sandbox) -> None:
    detached = "(setsid sleep 61 &) ; sleep 62 & cd / && env -i sleep 63 >/dev/null & sh -c 'sleep 0.01' &"
    done = sandbox.exec(f"{detached}\nsleep 0.5; echo $$", timeout_s=SOON_S)
    assert [process.name for process in done.background] == ["sleep"] * 3, done
    again = sandbox.exec("true", timeout_s=SOON_S)
    assert again.background == done.background, "also after the commands that follow"
    numbers = " ".join(str(process.pid) for process in done.background)
    assert sandbox.exec(f"kill {numbers}; sleep 0.1", timeout_s=SOON_S).background == (), "it can be ended"
    zombies = sandbox.exec("cat /proc/[0-9]*/stat | grep -c ') Z '", timeout_s=SOON_S)
    assert zombies.stdout == "0\n", zombies


LIMITS: tuple[Check, ...] = (
    a_fork_bomb_is_bounded,
    a_fork_bomb_left_behind_does_not_stay,
    a_fork_bomb_that_waits_does_not_stop_the_next_command,
    memory_is_bounded,
    every_disk_is_bounded,
    nothing_but_the_disks_can_be_written,
    open_files_are_bounded,
    processor_time_is_shared_out,
    time_and_output_are_told,
    what_is_left_running_is_named,
)
