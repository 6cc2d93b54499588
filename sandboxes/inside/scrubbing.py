"""Making a sandbox blank between two episodes, and proving it.

The disks are swapped from outside. What is done here concerns the kernel's other memories of what commands
did: processes, System V and POSIX queues, semaphores and shared memory, sockets that outlive their process,
terminals. Each is removed where that is possible, and then looked for; whatever is found is a *trace*, named
in one sentence, and the sandbox is thrown away.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import time

from .identity import LIBC

PAUSE_S = 0.001
SETTLE_S = 0.5  # how long what is no process may take to go away after its last user
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
    """Knows what a blank sandbox looks like: as this one does when this is made."""

    def __init__(self, identity):
        self.identity = identity
        self.queues_are_seen = os.path.ismount(QUEUES)
        self.blank = state() if self.queues_are_seen else {}

    def trace(self, kept, timeout_s):
        """Remove what the last episode left; return what is left of it nevertheless, empty when nothing is.

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
        """Kill all that commands started; nothing but our own is there afterwards, dead or alive."""
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
        """Remove what may be removed; return what differs from the start nevertheless."""
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
    """What commands can change and the kernel remembers, name by name, where it can be compared."""
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
    """The lines of a table of the kernel; none where it has no such table."""
    try:
        with open(path, "rb") as file:
            return file.read().splitlines()[1:]
    except FileNotFoundError:
        return []


def sockets_in_use():
    """Of every protocol the kernel speaks: protocol -> count. Protocols without any are left out."""
    fields = (row.split() for row in rows("/proc/net/protocols"))
    return {name: count for name, _, count, *_ in fields if int(count) > 0}


def connections_ever():
    """How many TCP connections were ever tried here.

    None means none in TIME_WAIT either, nor the figures that the kernel keeps of every address for an hour.
    (It takes the kernel milliseconds to look through its tables of connections, which are the machine's.)
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
    """A trace, unless keys cannot be had here at all: they outlive processes, and cannot be listed."""
    ctypes.set_errno(0)
    LIBC.syscall(KEYCTL[os.uname().machine], GET_KEYRING, USER_KEYRING, 0, 0, 0)
    refused = ctypes.get_errno() in (errno.EPERM, errno.EACCES, errno.ENOSYS)
    return "" if refused else "keyrings can be used here"
