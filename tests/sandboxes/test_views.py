"""Two sandboxes of one image share nothing that can be locked or watched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from threading import Thread

import pytest

from sandboxes import Backend, Sandbox, SandboxSpec

FILES = "/usr/bin/env /etc/passwd /proc/self/exe"
HOLD = f"""python3 - {FILES} <<'END'
import fcntl, sys, time
held = [open(name) for name in sys.argv[1:]]
for file in held:
    fcntl.flock(file, fcntl.LOCK_EX)
open("/tmp/held", "w").close()
time.sleep(2)
END"""
TRY = f"""python3 - {FILES} <<'END'
import fcntl, sys
for name in sys.argv[1:]:
    fcntl.flock(open(name), fcntl.LOCK_EX | fcntl.LOCK_NB)
END"""
WATCH = """python3 - <<'END'
import ctypes, os, time
libc = ctypes.CDLL(None, use_errno=True)
watch = libc.inotify_init1(os.O_NONBLOCK)
for name in (b"/usr/bin", b"/usr/bin/env", b"/etc", b"/etc/passwd"):
    assert libc.inotify_add_watch(watch, name, 0x20) > 0, name  # IN_OPEN
open("/tmp/watching", "w").close()
time.sleep(2)
try:
    print("seen", os.read(watch, 4096))
except BlockingIOError:
    print("nothing")
END"""


@pytest.fixture(
    params=[
        pytest.param("docker", marks=pytest.mark.docker),
        pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
    ]
)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Sandbox, Sandbox]]:
    if request.param == "bubblewrap" and os.geteuid() != 0:
        pytest.skip("an ordinary user cannot mount: docs/isolation.md says so")
    backend: Backend = request.getfixturevalue(f"{request.param}_backend")
    spec = SandboxSpec(request.getfixturevalue(f"{request.param}_image"))
    with ExitStack() as opened:
        first, second = (backend.open(spec, timeout_s=60) for _ in range(2))
        opened.callback(first.close)
        opened.callback(second.close)
        yield first, second


def meanwhile(sandbox: Sandbox, command: str, mark: str) -> tuple[Thread, list[str]]:
    """Start a command, and wait until it has made the file `mark`."""
    said: list[str] = []
    thread = Thread(target=lambda: said.append(sandbox.exec(command, timeout_s=20).stdout))
    thread.start()
    waited = sandbox.exec(f"until test -e {mark}; do sleep 0.02; done", timeout_s=10)
    assert waited.exit_code == 0
    return thread, said


def test_a_lock_in_one_is_not_seen_in_the_other(pair: tuple[Sandbox, Sandbox]) -> None:
    first, second = pair
    thread, _ = meanwhile(first, HOLD, "/tmp/held")
    result = second.exec(TRY, timeout_s=10)
    thread.join()
    assert (result.exit_code, result.stderr) == (0, "")


def test_files_opened_in_one_are_not_seen_in_the_other(pair: tuple[Sandbox, Sandbox]) -> None:
    first, second = pair
    thread, said = meanwhile(first, WATCH, "/tmp/watching")
    second.exec("env true; cat /etc/passwd /usr/bin/env > /dev/null", timeout_s=10)
    thread.join()
    assert said == ["nothing\n"]
