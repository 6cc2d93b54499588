"""A sandbox's template: what its forks are, how they end, and that nothing of it is within reach of them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from sandboxes import Backend, Sandbox, SandboxSpec

REAL = [
    pytest.param("docker", marks=pytest.mark.docker),
    pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
]
PROGRAM = """
import os, sys, time
held = ["as it was loaded"]
waiting = {}
exec(os.read(int(os.environ["DAYTHREE_TEMPLATE_FD"]), 1 << 18), waiting)
waiting["wait"](int(os.environ["DAYTHREE_TEMPLATE_FD"]))
exec(sys.stdin.read())
"""
TEMPLATE = ("python3", "-c", PROGRAM)
COLD = ["sh", "-c", "echo started cold; exit 9"]
ATTACK = r"""
import ctypes, glob, json, platform, resource, signal
libc = ctypes.CDLL(None, use_errno=True)
NUMBERS = {'x86_64': (101, 310, 434, 438), 'aarch64': (117, 270, 434, 438)}
PTRACE, VM_READ, PIDFD_OPEN, PIDFD_GETFD = NUMBERS[platform.machine()]
done = []
def attempt(name, act):
    try:
        if act() != -1: done.append(name)
    except OSError: pass
def user(pid):
    return next(row.split()[1] for row in open(f'/proc/{pid}/status') if row.startswith('Uid'))
others = [int(name) for name in os.listdir('/proc') if name.isdigit() and user(name) != str(os.getuid())]
assert os.getppid() in others and user(os.getppid()) == '65531'
for pid in others:
    place = f'/proc/{pid}/'
    for name in ('mem', 'environ', 'maps', 'auxv', 'syscall', 'stack'):
        attempt('read ' + place + name, lambda: len(open(place + name, 'rb').read(1)))
    for name in ('mem', 'comm', 'oom_score_adj', 'clear_refs'):
        attempt('write ' + place + name, lambda: open(place + name, 'wb', buffering=0).write(b'0'))
    for name in ('cwd', 'root', 'exe', 'fd/0', 'fd/3', 'ns/pid'):
        attempt('follow ' + place + name, lambda: len(os.readlink(place + name)))
    attempt('list descriptors ' + place, lambda: len(os.listdir(place + 'fd')))
    for request in (16, 0x4206):  # PTRACE_ATTACH, PTRACE_SEIZE
        attempt(f'trace {pid}', lambda: libc.syscall(PTRACE, request, pid, 0, 0))
    for number in (0, signal.SIGSTOP, signal.SIGKILL, signal.SIGCHLD):
        attempt(f'signal {number} {pid}', lambda: os.kill(pid, number) or 0)
    attempt(f'renice {pid}', lambda: os.setpriority(os.PRIO_PROCESS, pid, 19) or 0)
    attempt(f'bind {pid}', lambda: os.sched_setaffinity(pid, {0}) or 0)
    attempt(f'limit {pid}', lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, (4, 4)) and 0)
    handle = libc.syscall(PIDFD_OPEN, pid, 0)
    for number in range(8):
        attempt(f'take {number} of {pid}', lambda: libc.syscall(PIDFD_GETFD, handle, number, 0))
    if handle != -1: os.close(handle)
    memory = ctypes.create_string_buffer(8)
    vector = (ctypes.c_void_p * 2)(ctypes.addressof(memory), 8)
    attempt(f'read memory {pid}', lambda: libc.syscall(VM_READ, pid, vector, 1, vector, 1, 0))
for user in (0, 65531, 65532):
    attempt(f'become {user}', lambda: os.setuid(user) or 0)
    attempt(f'become {user} again', lambda: os.setresuid(user, user, user) or 0)
    attempt(f'group {user}', lambda: os.setgroups([user]) or 0)
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
attempt('capabilities', lambda: libc.capset(header, (ctypes.c_uint32 * 6)(*[1 << 7] * 3, 0, 0, 0)))
attempt('ambient', lambda: libc.prctl(47, 2, 7, 0, 0))
kept = [row for row in open('/proc/self/status') if row.startswith('Cap') and int(row.split()[1], 16)]
done += [f'kept {row}' for row in kept]
streams = [os.readlink(f'/proc/self/fd/{name}') for name in os.listdir('/proc/self/fd')
           if os.path.exists(f'/proc/self/fd/{name}')]
done += [f'holds {name}' for name in streams if 'socket' in name]
print(json.dumps(done))
"""


@pytest.fixture(scope="module", params=REAL)
def sandbox_spec(request: pytest.FixtureRequest) -> tuple[Backend, SandboxSpec]:
    backend: Backend = request.getfixturevalue(f"{request.param}_backend")
    image: str = request.getfixturevalue(f"{request.param}_image")
    return backend, SandboxSpec(image, template=TEMPLATE, pids=64)


@pytest.fixture(scope="module")
def sandbox(sandbox_spec: tuple[Backend, SandboxSpec]) -> Iterator[Sandbox]:
    backend, spec = sandbox_spec
    opened = backend.open(spec, timeout_s=30)
    yield opened
    opened.close()


def test_a_fork_goes_on_as_a_command_would(sandbox: Sandbox) -> None:
    program = """
import json
os.write(int(os.environ["DAYTHREE_REPORT_FD"]), b"told")
print(json.dumps([held, os.getcwd(), os.environ["X"], os.getuid(), os.getsid(0) == os.getpid(), os.nice(0)]))
sys.stderr.write("complaint")
sys.exit(3)
"""
    options = {"cwd": "/tmp", "env": {"X": "ü\n"}, "stdin": program.encode(), "report": True}
    result = sandbox.exec(COLD, timeout_s=20, forked=True, **options)
    assert result.forked
    assert json.loads(result.stdout) == [["as it was loaded"], "/tmp", "ü\n", 1000, True, 5]
    assert (result.exit_code, result.stderr, result.report) == (3, "complaint", b"told")
    seen = "print(open('/proc/self/environ').read().count('DAYTHREE_COMMAND=') == 1)\nheld.append(1)\n"
    for _ in range(2):  # what one fork changes is not there for the next
        again = sandbox.exec(COLD, timeout_s=20, forked=True, stdin=(seen + "print(held)").encode())
        assert again.stdout == "True\n['as it was loaded', 1]\n"


def test_a_fork_ends_at_its_deadline_with_all_it_started(sandbox: Sandbox) -> None:
    program = """
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0: time.sleep(77)
        os._exit(0)
print("so far", flush=True)
time.sleep(77)
"""
    result = sandbox.exec(COLD, timeout_s=2, forked=True, stdin=program.encode())
    assert result.timed_out
    assert result.stdout == "so far\n"
    assert result.background == ()
    died = sandbox.exec(COLD, timeout_s=20, forked=True, stdin=b"os.kill(os.getpid(), 11)")
    assert died.exit_code == 139
    left = "if os.fork() == 0: time.sleep(77)"
    result = sandbox.exec(COLD, timeout_s=20, forked=True, stdin=left.encode())
    assert [process.name for process in result.background] == ["python3"]
    sandbox.exec("kill -9 -1", timeout_s=20)


def test_a_fork_can_do_nothing_to_the_template_or_the_program_inside(sandbox: Sandbox) -> None:
    result = sandbox.exec(COLD, timeout_s=30, forked=True, stdin=ATTACK.encode())
    assert result.exit_code == 0, result
    assert json.loads(result.stdout) == []
    assert sandbox.exec(COLD, timeout_s=20, forked=True, stdin=b"print(1)").stdout == "1\n"


def test_the_template_outlives_the_episode_and_its_forks_do_not(
    sandbox_spec: tuple[Backend, SandboxSpec],
) -> None:
    backend, spec = sandbox_spec
    sandbox = backend.open(spec, timeout_s=30)
    try:
        parent = b"print(os.getppid())"
        first = sandbox.exec(
            COLD, timeout_s=20, forked=True, stdin=parent + b"\nif os.fork() == 0: time.sleep(77)"
        )
        following = sandbox.recycled(timeout_s=20)
        if following is None:
            pytest.skip("no sandbox is recycled here")
        sandbox = following
        second = sandbox.exec(COLD, timeout_s=20, forked=True, stdin=parent)
    finally:
        sandbox.close()
    assert second.forked
    assert second.stdout == first.stdout
    assert second.background == ()


@pytest.mark.bubblewrap
@pytest.mark.parametrize("template", [(), ("no-such-program",), ("sh", "-c", "exit 1")])
def test_the_command_starts_where_no_template_answers(
    bubblewrap_backend: Backend, bubblewrap_image: str, template: tuple[str, ...]
) -> None:
    sandbox = bubblewrap_backend.open(SandboxSpec(bubblewrap_image, template=template), timeout_s=30)
    try:
        result = sandbox.exec(COLD, timeout_s=20, forked=True)
    finally:
        sandbox.close()
    assert (result.exit_code, result.stdout, result.forked) == (9, "started cold\n", False)
