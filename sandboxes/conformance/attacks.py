"""Checks that no command reaches the program inside. Each gets a fresh sandbox of `SPEC_LIMITS`."""

from __future__ import annotations

import json
import time

from ..base import ExecResult, Match, Sandbox
from .commands import SOON_S, Check

ATTACK = r"""
import ctypes, glob, json, os, platform, resource, sys
libc = ctypes.CDLL(None, use_errno=True)
NUMBERS = {'x86_64': (101, 310, 434, 438), 'aarch64': (117, 270, 434, 438)}
PTRACE, VM_READ, PIDFD_OPEN, PIDFD_GETFD = NUMBERS[platform.machine()]
done = []
def attempt(name, act):
    try:
        if act() != -1: done.append(name)
    except OSError: pass
def uids(pid):
    return next(row.split()[1:] for row in open(f'/proc/{pid}/status') if row.startswith('Uid'))
apart = not set(uids(1)[:3]) & set(uids('self'))
for task in map(int, os.listdir('/proc/1/task')):
    place = f'/proc/1/task/{task}/'
    for name in ('mem', 'environ', 'maps', 'auxv', 'syscall', 'stack'):
        attempt('read ' + name, lambda: len(open(place + name, 'rb').read(1)))
    for name in ('mem', 'comm', 'oom_score_adj', 'clear_refs'):
        attempt('write ' + name, lambda: open(place + name, 'wb', buffering=0).write(b'0'))
    for name in ('cwd', 'root', 'exe', 'fd/0', 'fd/1', 'ns/pid'):
        attempt('follow ' + name, lambda: len(os.readlink(place + name)))
    attempt('list descriptors', lambda: len(os.listdir(place + 'fd')))
    for name in ('fd/0', 'fd/1', 'fd/2'):
        attempt('write ' + name, lambda: os.open(place + name, os.O_WRONLY | os.O_NONBLOCK))
    for request in (16, 0x4206):  # PTRACE_ATTACH, PTRACE_SEIZE
        attempt('trace', lambda: libc.syscall(PTRACE, request, task, 0, 0))
    if apart and task == 1:
        attempt('renice', lambda: os.setpriority(os.PRIO_PROCESS, task, 19))
        attempt('bind to a processor', lambda: os.sched_setaffinity(task, {0}))
        attempt('schedule', lambda: os.sched_setscheduler(task, os.SCHED_IDLE, os.sched_param(0)))
        attempt('signal', lambda: os.kill(task, 0))
if apart: attempt('limit', lambda: resource.prlimit(1, resource.RLIMIT_NOFILE, (4, 4)) and 0)
handle = libc.syscall(PIDFD_OPEN, 1, 0)
for number in range(3):
    attempt('take a descriptor', lambda: libc.syscall(PIDFD_GETFD, handle, number, 0))
bytes_read = ctypes.create_string_buffer(8)
vector = (ctypes.c_void_p * 2)(ctypes.addressof(bytes_read), 8)
attempt('read memory', lambda: libc.syscall(VM_READ, 1, vector, 1, vector, 1, 0))
given = {int(name) for name in os.listdir('/proc/self/fd')} - {0, 1, 2, handle}
done += [f'descriptor {number}' for number in given if os.path.exists(f'/proc/self/fd/{number}')]
for name in ('/usr/bin/python3', '/bin/sh', '/usr/bin/rg'):
    attempt('replace ' + name, lambda: os.rename(__file__, name) or 0)
print(json.dumps({'apart': apart, 'done': sorted(set(done))}))
"""
SIGNAL_ALL = """
import os, sys
for number in range(1, 65):
    for target in (1, -1):
        if number not in (19, 32, 33) and (target == 1 or number in (2, 15, 10, 18)):
            try: os.kill(target, number)
            except OSError: pass
os.kill(-1, 9)
"""
STOPPER = """
import os
while True:
    try: os.kill(-1, 19)  # SIGSTOP, to all but itself and what is not its own
    except OSError: pass
"""


HUNTER = """
import os, resource, sys, time
until, own = time.monotonic() + float(sys.argv[1]), os.getpid()
while time.monotonic() < until:
    for pid in [int(name) for name in os.listdir('/proc') if name.isdigit() and int(name) != own]:
        for act in (
            lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, (5, 5)),
            lambda: os.setpriority(os.PRIO_PROCESS, pid, 19),
            lambda: os.kill(pid, 9),
        ):
            try: act()
            except OSError: pass
"""


def commands_cannot_reach_the_program_inside(sandbox: Sandbox) -> None:
    sandbox.write("attack.py", ATTACK.encode(), timeout_s=SOON_S)
    attack = sandbox.exec(["python3", "attack.py"], timeout_s=SOON_S)
    assert attack.exit_code == 0, attack
    succeeded = json.loads(attack.stdout)["done"]
    assert succeeded == [], f"a command could do this to the program inside: {succeeded}"


def no_signal_reaches_the_program_inside(sandbox: Sandbox) -> None:
    sandbox.exec(["python3", "-c", SIGNAL_ALL], timeout_s=SOON_S)
    sandbox.exec("kill -STOP 1; kill -9 1", timeout_s=SOON_S)
    sandbox.exec("kill -9 -1", timeout_s=SOON_S)
    assert sandbox.exec("echo well", timeout_s=SOON_S).stdout == "well\n"


def nothing_can_be_put_in_the_place_of_a_tool(sandbox: Sandbox) -> None:
    sandbox.write("text", b"needle\n", timeout_s=SOON_S)
    for place in ("rg", "sh", "python3", "/tmp/home/bin/rg", "/tmp/home/.local/bin/rg", "/tmp/rg"):
        fake = b"#!/bin/sh\nprintf 'text\\0001:forged\\n'\n"
        sandbox.write(place, fake, executable=True, timeout_s=SOON_S)
    sandbox.exec("export PATH=/workspace:$PATH; hash -r; alias rg=./rg", timeout_s=SOON_S)
    found = sandbox.search("n[e]+dle$", regex=True, path="text", timeout_s=SOON_S)
    assert found == [Match("text", 1, "needle")], found
    assert sandbox.exec("echo real", timeout_s=SOON_S).stdout == "real\n"


def who_stops_all_others_does_not_stop_the_sandbox(sandbox: Sandbox) -> None:
    """Not even during the start of a command, whose process has no program yet."""
    for _ in range(6):
        sandbox.exec(["sh", "-c", 'python3 -c "$0" >/dev/null 2>&1 &', STOPPER], timeout_s=0.5)
        assert "1/" in sandbox.listdir("/proc", timeout_s=SOON_S)
        time.sleep(0.1)
        started = time.monotonic()
        assert isinstance(sandbox.exec("true", timeout_s=0.4), ExecResult)
        assert time.monotonic() - started < 5, "a result, soon after the deadline"
        sandbox.write("file", b"x", timeout_s=SOON_S)
        assert sandbox.read("file", timeout_s=SOON_S) == b"x"


def who_hunts_all_others_meets_only_commands(sandbox: Sandbox) -> None:
    """The starter can be signalled only in the moment of a start, and that has no lasting effect."""
    hunt = 'python3 -c "$0" 1.5 >/dev/null 2>&1 & sleep 0.05'
    sandbox.exec(["sh", "-c", hunt, HUNTER], timeout_s=SOON_S)
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        assert isinstance(sandbox.exec(["true"], timeout_s=SOON_S), ExecResult)
        sandbox.write("file", b"x", timeout_s=SOON_S)
    time.sleep(0.3)
    assert sandbox.exec("true", timeout_s=SOON_S).exit_code in (0, 126, 137), "the last that could be touched"
    limits = sandbox.exec("ulimit -n; ulimit -Hn", timeout_s=SOON_S)
    assert limits.stdout.split() == [str(sandbox.spec.open_files)] * 2, limits


ATTACKS: tuple[Check, ...] = (
    commands_cannot_reach_the_program_inside,
    no_signal_reaches_the_program_inside,
    nothing_can_be_put_in_the_place_of_a_tool,
    who_stops_all_others_does_not_stop_the_sandbox,
    who_hunts_all_others_meets_only_commands,
)
