"""Checks that a sandbox isolates and ends. Each gets a fresh sandbox of `SPEC_LIMITS`."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

from ..base import Sandbox, SandboxLost
from .commands import SOON_S, Check, refuses

STATUS = """
import json, os
rows = dict(row.split(':', 1) for row in open('/proc/self/status'))
wanted = ('Uid', 'Gid', 'CapEff', 'CapPrm', 'CapBnd', 'NoNewPrivs')
print(json.dumps({key: rows[key].split() for key in wanted}))
"""

CALLS = """
import ctypes, errno, json, platform
libc = ctypes.CDLL(None, use_errno=True)
CALLS = {  # numbers on x86_64 and aarch64
    'mount': (165, 40), 'unshare a user namespace': (272, 97), 'setns': (308, 268), 'keyctl': (250, 219),
    'add_key': (248, 217), 'bpf': (321, 280), 'perf_event_open': (298, 241), 'userfaultfd': (323, 282),
    'init_module': (175, 105), 'kexec_load': (246, 104), 'reboot': (169, 142), 'clone3': (435, 435),
}
allowed = []
for name, numbers in CALLS.items():
    number = numbers[platform.machine() == 'aarch64']
    libc.syscall(number, ctypes.c_long(0x10000000), 0, 0, 0, 0)
    if ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS): allowed.append(name)
    ctypes.set_errno(0)
print(json.dumps(allowed))
"""


def nothing_runs_with_privileges(sandbox: Sandbox) -> None:
    status = json.loads(sandbox.exec(["python3", "-c", STATUS], timeout_s=SOON_S).stdout)
    assert set(status["Uid"]) == {"1000"} and set(status["Gid"]) == {"1000"}, status
    for key in ("CapEff", "CapPrm", "CapBnd"):
        assert int(status[key][0], 16) == 0, status
    assert status["NoNewPrivs"] == ["1"], status


def calls_that_reach_beyond_the_sandbox_are_refused(sandbox: Sandbox) -> None:
    done = sandbox.exec(["python3", "-c", CALLS], timeout_s=SOON_S)
    assert done.exit_code == 0 and json.loads(done.stdout) == [], done


def there_is_no_network(sandbox: Sandbox) -> None:
    devices = sandbox.exec("cat /proc/net/dev", timeout_s=SOON_S).stdout.splitlines()[2:]
    assert {row.split(":")[0].strip() for row in devices} == {"lo"}, devices
    assert sandbox.exec("cat /proc/net/route", timeout_s=SOON_S).stdout.count("\n") <= 1


def the_system_cannot_be_changed(sandbox: Sandbox) -> None:
    for path in (
        "/x",
        "/usr/x",
        "/etc/passwd",
        "/opt/env/x",
        "/proc/sys/kernel/hostname",
        "/proc/sys/kernel/core_pattern",
        "/dev/x",
    ):
        done = sandbox.exec(f"echo x > {path}", timeout_s=SOON_S)
        assert done.exit_code != 0, f"{path} was written"
    assert sandbox.exec("mount -t tmpfs none /workspace", timeout_s=SOON_S).exit_code != 0
    assert sandbox.exec("unshare -U true", timeout_s=SOON_S).exit_code != 0, "a user namespace was made"


def closing_ends_it(sandbox: Sandbox) -> None:
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(sandbox.exec, "sleep 60", timeout_s=90)
        time.sleep(0.3)
        started = time.monotonic()
        sandbox.close()
        refuses(SandboxLost, lambda: waiting.result(10))
        assert time.monotonic() - started < 10, "who waits is told"
    sandbox.close()
    refuses(SandboxLost, lambda: sandbox.read("x", timeout_s=SOON_S))


def a_closed_sandbox_is_lost(sandbox: Sandbox) -> None:
    sandbox.close()
    sandbox.close()
    refuses(SandboxLost, lambda: sandbox.exec("true", timeout_s=SOON_S))
    refuses(SandboxLost, lambda: sandbox.listdir(".", timeout_s=SOON_S))


def a_lent_sandbox_goes_back_when_it_is_closed(sandbox: Sandbox) -> None:
    returned: list[tuple[Sandbox, bool]] = []

    def take_back(sandbox: Sandbox, *, sound: bool) -> None:
        returned.append((sandbox, sound))

    sandbox.write("left", b"1", timeout_s=SOON_S)
    sandbox.on_close = take_back
    sandbox.close()
    sandbox.close()
    refuses(SandboxLost, lambda: sandbox.read("left", timeout_s=SOON_S))
    assert len(returned) == 1, f"on_close was called {len(returned)} times, not once"
    following, sound = returned[0]
    assert sound, "no call was under way or had failed"
    assert following.read("left", timeout_s=SOON_S) == b"1", "the sandbox goes on under the new handle"
    following.close()
    refuses(SandboxLost, lambda: following.read("left", timeout_s=SOON_S))


ISOLATION: tuple[Check, ...] = (
    nothing_runs_with_privileges,
    calls_that_reach_beyond_the_sandbox_are_refused,
    there_is_no_network,
    the_system_cannot_be_changed,
    closing_ends_it,
)
ENDING: tuple[Check, ...] = (a_closed_sandbox_is_lost, a_lent_sandbox_goes_back_when_it_is_closed)
