"""Checks that a recycled sandbox is blank: leave a trace, recycle, look for the trace.

A check gets a sandbox of `SPEC_LIMITS`, uses it up, and returns the sandbox recycled from it, or None when it
was thrown away. After a check of `GONE`, ordinary use, recycling must succeed; after one of `DOUBTED` it must
not; after one of `EITHER` it may, but never with a trace.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ..base import Sandbox, SandboxLost, SandboxUnresponsive
from .attacks import STOPPER
from .commands import SOON_S, refuses
from .limits import FORK_BOMB

Recycling = Callable[[Sandbox], "Sandbox | None"]
SECRET = "left-by-the-last-episode"

HIDDEN = """
import os, signal, time
def child(prepare):
    if os.fork() == 0:
        prepare()
        while True: time.sleep(60)
def daemon():
    os.setsid()
    if os.fork(): os._exit(0)
def deaf():
    for number in set(range(1, 65)) - {9, 19, 32, 33}: signal.signal(number, signal.SIG_IGN)
child(daemon)
child(deaf)
child(lambda: (daemon(), os.kill(os.getpid(), signal.SIGSTOP)))
child(lambda: (daemon(), os.execve('/bin/sleep', ['kworker/0:1', '60'], {})))
child(lambda: (os.fork(), os.fork(), deaf(), daemon()))
time.sleep(0.2)
"""
HELD = """
import ctypes, fcntl, os, pty, signal, socket, sys, time
kept = [open('/etc/passwd'), pty.openpty()]
fcntl.flock(kept[0], fcntl.LOCK_EX)
own = open('/tmp/own', 'w+b')
fcntl.fcntl(own, fcntl.F_SETLEASE, fcntl.F_WRLCK)
fcntl.lockf(own, fcntl.LOCK_EX)
deleted = open('/tmp/deleted', 'w+b')
deleted.write(b'x' * 20_000_000)
os.unlink('/tmp/deleted')
libc = ctypes.CDLL(None)
watch = libc.inotify_init()
libc.inotify_add_watch(watch, b'/usr/bin', 0xfff)
signal.setitimer(signal.ITIMER_REAL, 60, 60)
for name in ('\\0left', '\\0far'):
    one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.bind(name)
    kept.append(one)
ends = socket.socketpair()  # which hold each other, and a file that no process has open
for end in ends: socket.send_fds(end, [b'x'], [end.fileno(), ends[0].fileno(), deleted.fileno()])
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    port = socket.socket(socket.AF_INET, kind)
    port.bind(('127.0.0.1', 4040))
    kept.append(port)
kept[-2].listen()
print('held', flush=True)
os.close(1); os.close(2)
time.sleep(60)
"""
FREE = """
import fcntl, json, os, pty, socket
found = [row for row in open('/proc/net/unix').read().splitlines()[1:] if len(row.split()) > 7]
found += [row for row in open('/proc/locks').read().splitlines() if ' -1 ' not in row]
found += [name for name in os.listdir('/dev/pts') if name != 'ptmx']
lock = open('/etc/passwd')
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
for name in ('\\0left', '\\0far'):
    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).bind(name)
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    socket.socket(socket.AF_INET, kind).bind(('127.0.0.1', 4040))
print(json.dumps(found))
"""
QUEUES = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
O_CREAT_RDWR, IPC_CREAT = 0o102, 0o1000
for key in (0, 7, 8):
    made = [libc.shmget(key, 4096, IPC_CREAT | 0o600), libc.semget(key, 3, IPC_CREAT | 0o600),
            libc.msgget(key, IPC_CREAT | 0o600)]
    assert min(made) >= 0, made
text = ctypes.create_string_buffer(b'\\1\\0\\0\\0\\0\\0\\0\\0left', 16)
assert libc.msgsnd(made[2], text, 4, 0) == 0
queue = libc.mq_open(b'/left', O_CREAT_RDWR, 0o600, None)
assert queue >= 0 and libc.mq_send(queue, b'left', 4, 0) == 0, ctypes.get_errno()
libc.sem_open.restype = ctypes.c_void_p
assert libc.sem_open(b'/left', 0o100, 0o600, 3)
"""
LEFT = "tail -n +2 -q /proc/sysvipc/shm /proc/sysvipc/sem /proc/sysvipc/msg; ls -A /dev/mqueue /dev/shm"
CONNECT = """
import socket
listening = socket.create_server(('127.0.0.1', 4041))
near = socket.create_connection(('127.0.0.1', 4041))
far, _ = listening.accept()
near.close(); far.close()
"""
CHANGE_LIMITS = """
import json, os, resource
done = []
def attempt(name, act):
    try:
        act()
        done.append(name)
    except OSError: pass
for pid in filter(str.isdigit, os.listdir('/proc')):
    rows = dict(row.split(':', 1) for row in open(f'/proc/{pid}/status') if ':' in row)
    if rows['Uid'].split()[0] == '1000': continue
    for task in map(int, os.listdir(f'/proc/{pid}/task')):
        for number in (resource.RLIMIT_NOFILE, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE):
            attempt(f'limit {number} of {pid}/{task}', lambda: resource.prlimit(task, number, (9, 9)))
        attempt(f'renice {pid}/{task}', lambda: os.setpriority(os.PRIO_PROCESS, task, 19))
        attempt(f'bind {pid}/{task}', lambda: os.sched_setaffinity(task, {0}))
        idle = os.SCHED_IDLE, os.sched_param(0)
        attempt(f'schedule {pid}/{task}', lambda: os.sched_setscheduler(task, *idle))
        attempt(f'signal {pid}/{task}', lambda: os.kill(task, 0))
        place = f'/proc/{pid}/task/{task}/oom_score_adj'
        attempt(f'spare {pid}/{task}', lambda: open(place, 'w').write('999'))
print(json.dumps(done))
"""
KEYS = """
import ctypes, errno, platform
libc = ctypes.CDLL(None, use_errno=True)
add_key, keyctl = {'x86_64': (248, 250), 'aarch64': (217, 219)}[platform.machine()]
for call in ((add_key, b'user', b'left', b'x', 1, -4), (keyctl, 0, -4, 1, 0, 0)):
    assert libc.syscall(*call) == -1 and ctypes.get_errno() in (errno.EPERM, errno.ENOSYS), call
"""
LABEL = """
import socket, struct
labelled = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
local = socket.inet_pton(socket.AF_INET6, '::1')
request = local + struct.pack('=IBBHHHI', socket.htonl(0x12345), 0, 255, 1, 60, 60, 0)  # create anybody's
labelled.setsockopt(socket.IPPROTO_IPV6, 32, request)  # IPV6_FLOWLABEL_MGR
print(open('/proc/net/ip6_flowlabel').read().count('12345'))
"""
ALONE = """
import json, os
found = {}
for pid in filter(str.isdigit, os.listdir('/proc')):
    rows = dict(row.split(':', 1) for row in open(f'/proc/{pid}/status') if ':' in row)
    if rows['Uid'].split()[0] == '1000' or rows['State'].split()[0] in 'ZT': found[pid] = rows['Name']
print(json.dumps(found))
"""
SETTINGS = (
    "ulimit -a; env | grep -v ^DAYTHREE_COMMAND | sort; umask; grep -h ^Cpus_allowed: /proc/self/status"
)


def run(sandbox: Sandbox, script: str) -> str:
    """Run a Python script that must succeed; return its output."""
    done = sandbox.exec(["python3", "-c", script], timeout_s=SOON_S)
    assert done.exit_code == 0, done
    return done.stdout


def leave_running(sandbox: Sandbox, script: str) -> None:
    command = 'python3 -c "$0" >/tmp/said 2>&1 & until [ -s /tmp/said ]; do sleep 0.02; done; cat /tmp/said'
    done = sandbox.exec(["sh", "-c", command, script], timeout_s=SOON_S)
    assert done.stdout == "held\n", done


def recycled(sandbox: Sandbox) -> Sandbox | None:
    """Recycle; return the next handle after checking that only necessary processes run in it."""
    fresh = sandbox.recycled(timeout_s=SOON_S)
    refuses(SandboxLost, lambda: sandbox.exec("true", timeout_s=SOON_S))
    if fresh is not None:
        assert fresh.exec("true", timeout_s=SOON_S).background == ()
        alone = json.loads(run(fresh, ALONE))
        assert len(alone) == 1, f"more than this command runs: {alone}"
    return fresh


def surely_recycled(sandbox: Sandbox) -> Sandbox:
    fresh = recycled(sandbox)
    assert fresh is not None, "an ordinary episode was thrown away"
    return fresh


def files_are_gone(sandbox: Sandbox) -> Sandbox:
    places = (sandbox.spec.workdir, "/tmp", "/tmp/home", "/dev/shm")
    before = [sandbox.exec(f"ls -ldn {place}", timeout_s=SOON_S).stdout.split()[:4] for place in places]
    for place in places:
        hide = f"mkdir -p {place}/a/.b && echo {SECRET} >{place}/a/.b/c && chmod 000 {place}/a"
        assert sandbox.exec(hide, timeout_s=SOON_S).exit_code == 0
        sandbox.exec(f"chmod 1711 {place}", timeout_s=SOON_S)  # not every place is theirs
    sandbox.exec("head -c 2G /dev/zero > full; cd /tmp && head -c 2G /dev/zero > full", timeout_s=SOON_S)
    fresh = surely_recycled(sandbox)
    assert [fresh.exec(f"ls -ldn {place}", timeout_s=SOON_S).stdout.split()[:4] for place in places] == before
    listed = fresh.exec(f"ls -AR {' '.join(places)}", timeout_s=SOON_S)
    assert "a" not in listed.stdout.split() and "full" not in listed.stdout.split(), listed
    for place in places:
        fresh.write(f"{place}/new", b"x" * 1_000_000, timeout_s=SOON_S)
    return fresh


def hidden_processes_are_gone(sandbox: Sandbox) -> Sandbox:
    assert sandbox.exec(["python3", "-c", HIDDEN], timeout_s=SOON_S).background, "they run"
    return surely_recycled(sandbox)


def what_forks_as_fast_as_it_may_is_gone(sandbox: Sandbox) -> Sandbox:
    late = 'sleep 0.2; exec python3 -c "$0" 60'
    sandbox.exec(["sh", "-c", f"({late}) >/dev/null 2>&1 &", FORK_BOMB], timeout_s=SOON_S)
    time.sleep(0.6)
    return surely_recycled(sandbox)


def what_stops_all_others_is_gone(sandbox: Sandbox) -> Sandbox:
    sandbox.exec(["sh", "-c", 'python3 -c "$0" >/dev/null 2>&1 &', STOPPER], timeout_s=2)
    time.sleep(0.3)
    return surely_recycled(sandbox)


def what_processes_held_is_gone(sandbox: Sandbox) -> Sandbox:
    """Locks, leases, watches, timers, terminals, sockets, files in flight between sockets."""
    leave_running(sandbox, HELD)
    assert sandbox.exec(["python3", "-c", FREE], timeout_s=SOON_S).exit_code == 1, "they are held"
    fresh = surely_recycled(sandbox)
    assert json.loads(run(fresh, FREE)) == []
    return fresh


def queues_and_shared_memory_are_gone(sandbox: Sandbox) -> Sandbox:
    run(sandbox, QUEUES)
    assert sandbox.exec(LEFT, timeout_s=SOON_S).stdout.count("\n") > 9, "they are there"
    fresh = surely_recycled(sandbox)
    assert fresh.exec(LEFT, timeout_s=SOON_S).stdout.split() == ["/dev/mqueue:", "/dev/shm:"]
    run(fresh, QUEUES)
    return surely_recycled(fresh)


def the_program_inside_begins_anew(sandbox: Sandbox) -> Sandbox:
    """Counters of commands and of output files, the environment, limits, and output that was never read."""
    sandbox = surely_recycled(sandbox)

    def numbers(of: Sandbox) -> tuple[str, bool]:
        mark = of.exec("echo $DAYTHREE_COMMAND", timeout_s=SOON_S).stdout.rpartition("-")[2]
        long = of.exec("head -c 9000 /dev/zero", output_limit=1_000, timeout_s=SOON_S)
        return mark, "/tmp/output-1.txt" in long.stdout

    before = numbers(sandbox), sandbox.exec(SETTINGS, timeout_s=SOON_S).stdout
    sandbox.exec(f"export LEFT={SECRET}; ulimit -n 300; umask 0; yes {SECRET} &", timeout_s=SOON_S)
    fresh = surely_recycled(sandbox)
    assert (numbers(fresh), fresh.exec(SETTINGS, timeout_s=SOON_S).stdout) == before
    return fresh


def no_limit_of_the_program_inside_can_be_changed(sandbox: Sandbox) -> Sandbox:
    assert json.loads(run(sandbox, CHANGE_LIMITS)) == []
    for name in (
        "kernel/shmmax",
        "kernel/msgmax",
        "fs/mqueue/queues_max",
        "net/ipv4/ip_default_ttl",
        "vm/swappiness",
    ):
        done = sandbox.exec(f"echo 1 > /proc/sys/{name}", timeout_s=SOON_S)
        assert done.exit_code != 0, f"/proc/sys/{name} was written"
    run(sandbox, KEYS)
    return surely_recycled(sandbox)


def the_old_handle_is_over(sandbox: Sandbox) -> Sandbox:
    fresh = surely_recycled(sandbox)
    refuses(SandboxLost, lambda: sandbox.read("x", timeout_s=SOON_S))
    assert sandbox.recycled(timeout_s=SOON_S) is None
    sandbox.close()
    assert fresh.exec("echo well", timeout_s=SOON_S).stdout == "well\n"
    return fresh


def a_reply_that_nobody_waited_for_goes_to_nobody(sandbox: Sandbox) -> Sandbox | None:
    sandbox.write("big", SECRET.encode() * 1_000_000, timeout_s=SOON_S)
    refuses(SandboxUnresponsive, lambda: sandbox.read("big", timeout_s=0.0))
    fresh = recycled(sandbox)
    if fresh is not None:
        refuses(FileNotFoundError, lambda: fresh.read("big", timeout_s=SOON_S))
    return fresh


def what_outlives_its_socket_is_gone(sandbox: Sandbox) -> Sandbox | None:
    """An IPv6 flow label, where the kernel has them."""
    sandbox.exec(["python3", "-c", LABEL], timeout_s=SOON_S)
    fresh = recycled(sandbox)
    if fresh is not None:
        labels = fresh.exec("cat /proc/net/ip6_flowlabel", timeout_s=SOON_S)
        assert "12345" not in labels.stdout, labels
    return fresh


def a_call_under_way_is_lost_with_its_sandbox(sandbox: Sandbox) -> Sandbox | None:
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(sandbox.exec, "sleep 60", timeout_s=90)
        time.sleep(0.3)
        fresh = sandbox.recycled(timeout_s=SOON_S)
        refuses(SandboxLost, lambda: waiting.result(10))
    return fresh


def connections_are_remembered_by_the_kernel(sandbox: Sandbox) -> Sandbox | None:
    """For a minute in TIME_WAIT, and for an hour as metrics of the remote address."""
    run(sandbox, CONNECT)
    return sandbox.recycled(timeout_s=SOON_S)


GONE: tuple[Recycling, ...] = (
    files_are_gone,
    hidden_processes_are_gone,
    what_forks_as_fast_as_it_may_is_gone,
    what_stops_all_others_is_gone,
    what_processes_held_is_gone,
    queues_and_shared_memory_are_gone,
    the_program_inside_begins_anew,
    no_limit_of_the_program_inside_can_be_changed,
    the_old_handle_is_over,
)
EITHER: tuple[Recycling, ...] = (
    what_outlives_its_socket_is_gone,
    a_reply_that_nobody_waited_for_goes_to_nobody,
)
DOUBTED: tuple[Recycling, ...] = (
    a_call_under_way_is_lost_with_its_sandbox,
    connections_are_remembered_by_the_kernel,
)
