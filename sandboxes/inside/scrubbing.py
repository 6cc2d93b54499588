"""Make a sandbox blank between two episodes, and prove it.

Disks are swapped from outside. This module handles the kernel's other memories of commands: processes,
System V and POSIX queues, semaphores and shared memory, sockets that outlive their process, terminals. Each
is removed where possible, and then checked. Whatever is still there is a *trace*, named in one sentence, and
the sandbox is thrown away.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import time

from .identity import LIBC

PAUSE_S = 0.001
SETTLE_S = 0.5  # time for sockets and the like to vanish after their last user
QUEUES = "/dev/mqueue"
TERMINALS = "/dev/pts"
SYSTEM_V = {"shm": "shmctl", "msg": "msgctl", "sem": "semctl"}  # table below /proc/sysvipc -> what removes
REMOVE = 0  # IPC_RMID
SOCKETS = ("udp", "udp6", "udplite", "udplite6", "raw", "raw6", "icmp", "icmp6", "unix", "packet")
LINGERING = "ip6_flowlabel"  # which outlives its socket
CONNECTIONS = "ActiveOpens"
KEYCTL = {"x86_64": 250, "aarch64": 219}
GET_KEYRING, USER_KEYRING = 0, -4  # KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_KEYRING


class Scrubbing:
    """Compares a used sandbox with a blank one: the state at the time of construction."""

    def __init__(self, identity):
        self.identity = identity
        self.queues_are_seen = os.path.ismount(QUEUES)
        self.blank = state() if self.queues_are_seen else {}

    def trace(self, kept, timeout_s):
        """Remove what the last episode left; return the first remaining trace, empty when there is none.

        `kept` are processes that may stay.
        """
        if not self.queues_are_seen:
            return f"message queues cannot be seen: nothing is mounted at {QUEUES}"
        until = time.monotonic() + timeout_s
        try:
            found = self.end_processes({os.getpid(), *kept}, until)
            return found or self.remove_the_rest(until)
        except OSError as error:
            return f"looking for traces failed: {error}"

    def end_processes(self, own, until):
        """Kill all processes of commands, and reap them; return a remaining trace, else empty."""
        while True:
            self.identity.signal_everyone(signal.SIGKILL)
            reap(own)
            left = {int(name) for name in os.listdir("/proc") if name.isdigit()} - own
            if not left:
                return ""
            if time.monotonic() > until:
                return f"a process is still there: {min(left)}"
            time.sleep(PAUSE_S)

    def remove_the_rest(self, until):
        """Remove what can be removed; return what still differs from the start."""
        until = min(until, time.monotonic() + SETTLE_S)
        with self.identity.acting_as_user():
            remove_system_v()
            remove_queues()
        while True:
            now = state()
            differing = sorted(name for name in now if now[name] != self.blank[name])
            if not differing:
                return keyrings()
            if "connections" in differing or time.monotonic() > until:
                return f"not as at the start: {', '.join(differing)}"
            time.sleep(PAUSE_S)


def reap(own):
    """Reap every child that has ended."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid in own:
            return
        os.waitpid(ended.si_pid, 0)


def state():
    """Return the comparable kernel state that commands can change, by name."""
    found = {}
    found.update({f"System V {kind}": len(rows(f"/proc/sysvipc/{kind}")) for kind in SYSTEM_V})
    found["message queues"] = sorted(os.listdir(QUEUES))
    found["terminals"] = sorted(os.listdir(TERMINALS))
    found.update({f"{kind} sockets": len(rows(f"/proc/net/{kind}")) for kind in SOCKETS})
    found["flow labels"] = len(rows(f"/proc/net/{LINGERING}"))
    found["sockets"] = sockets_in_use()
    found["connections"] = connections_ever()
    return found


def rows(path):
    """Return the lines of a kernel table; none where the kernel lacks the table."""
    try:
        with open(path, "rb") as file:
            return file.read().splitlines()[1:]
    except FileNotFoundError:
        return []


def sockets_in_use():
    """Return protocol -> number of sockets in use; protocols without any are left out."""
    fields = (row.split() for row in rows("/proc/net/protocols"))
    return {name: count for name, _, count, *_ in fields if int(count) > 0}


def connections_ever():
    """Return the number of TCP connections ever attempted here.

    If 0, none is in TIME_WAIT either, and the kernel holds no metrics of remote addresses (kept for an hour).
    The count is cheap; searching the connection tables, which are the whole machine's, takes milliseconds.
    """
    with open("/proc/net/snmp") as file:
        names, values = [row.split() for row in file if row.startswith("Tcp:")]
    return int(values[names.index(CONNECTIONS)])


def remove_system_v():
    for kind, remove in SYSTEM_V.items():
        for row in rows(f"/proc/sysvipc/{kind}"):
            number = ctypes.c_int(int(row.split()[1]))
            if kind == "sem":
                LIBC.semctl(number, 0, REMOVE)
            else:
                getattr(LIBC, remove)(number, REMOVE, None)


def remove_queues():
    for name in os.listdir(QUEUES):
        os.unlink(os.path.join(QUEUES, name))


def keyrings():
    """Return a trace unless keyrings are unavailable here: keys outlive processes and cannot be listed."""
    ctypes.set_errno(0)
    LIBC.syscall(KEYCTL[os.uname().machine], GET_KEYRING, USER_KEYRING, 0, 0, 0)
    refused = ctypes.get_errno() in (errno.EPERM, errno.EACCES, errno.ENOSYS)
    return "" if refused else "keyrings can be used here"
