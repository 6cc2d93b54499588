"""Users of the sandbox: the program inside has its own; commands and file operations have the policy's.

The kernel separates the two by user id alone. A command cannot signal this program, trace it, read its
memory, environment or descriptors, nor change its priority, limits or CPU affinity: each of these needs an
equal user id. No thread of this program ever has the commands' id as its real or saved id, because the whole
process could then be killed or limited through that thread. The program keeps two capabilities, taken while
it is still the first user of its namespace: SETUID, so that a child can become the policy's user just before
it becomes a command, and KILL, to end commands. No command can gain either: the bounding set is emptied, and
children inherit that.

Files are opened under the policy's user as well (`setfsuid`, which changes nothing else), so that permissions
apply to tools as they apply to commands.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import contextmanager

PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER = 4, 8, 24, 36
CAP_KILL, CAP_SETUID = 5, 7
CAPABILITY_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3
SETRESUID = {"x86_64": 117, "aarch64": 147}
"""System call numbers. The C library's function would change every thread of the process, not only this one.
"""
UNCHANGED = -1
LIBC = ctypes.CDLL(None, use_errno=True)


class Identity:
    """The commands' user; `server` is this program's own user, None when both are the same."""

    def __init__(self, user, group, server):
        self.user = user
        self.group = group
        self.server = server

    def take(self):
        """Become the server's user, irrevocably. Raises OSError where that is not permitted."""
        if self.server is not None:
            refuse_traceable()
            empty_bounding_set()
            prctl(PR_SET_KEEPCAPS, 1)
            os.setgroups([])
            os.setresgid(self.group, self.group, self.group)
            os.setresuid(self.server, self.server, self.server)
            set_capabilities(1 << CAP_KILL | 1 << CAP_SETUID)
            LIBC.setfsuid(self.user)
            if LIBC.setfsuid(-1) != self.user:
                raise PermissionError("this system cannot open files under another user (setfsuid)")
        prctl(PR_SET_DUMPABLE, 0)  # no tracing, and /proc/PID belongs to root

    @contextmanager
    def being_user(self):
        """Be the policy's user in the calling thread; processes started in the block are that user's."""
        if self.server is None:
            yield
            return
        set_user_ids(self.user, self.user, self.user)
        try:
            yield
        finally:
            set_user_ids(self.server, self.server, self.server)
            LIBC.setfsuid(self.user)
            prctl(PR_SET_DUMPABLE, 0)  # a change of user resets the flag to the machine's default

    @contextmanager
    def acting_as_user(self):
        """Check file permissions of the calling thread as for the policy's user.

        Only the effective user changes, which gives others no rights over this program.
        """
        if self.server is None:
            yield
            return
        set_user_ids(UNCHANGED, self.user, UNCHANGED)
        set_capabilities(0, kept=1 << CAP_KILL | 1 << CAP_SETUID)
        try:
            yield
        finally:
            set_capabilities(1 << CAP_KILL | 1 << CAP_SETUID)
            set_user_ids(UNCHANGED, self.server, UNCHANGED)
            LIBC.setfsuid(self.user)
            prctl(PR_SET_DUMPABLE, 0)  # a change of user resets the flag to the machine's default

    @property
    def reaches_everyone(self):
        """Whether `signal_everyone` can spare this program."""
        return self.server is not None or os.getpid() == 1

    def signal_everyone(self, number):
        """Signal every process of the policy's user, in one system call that no fork can outrun.

        Includes processes of this program's user other than this process and the first one: its children that
        are about to become commands.
        """
        with self.acting_as_user():
            try:
                os.kill(-1, number)
            except OSError:
                pass  # no such process is left


def refuse_traceable():
    """Raise PermissionError where the new user could trace a process in the moment of a user change."""
    try:
        with open("/proc/sys/fs/suid_dumpable") as file:
            setting = file.read().strip()
    except OSError:
        return  # another kernel
    if setting == "1":
        raise PermissionError("this machine lets users trace privileged programs; set fs.suid_dumpable to 0")


def set_user_ids(real, effective, saved):
    number = SETRESUID[os.uname().machine]
    checked(LIBC.syscall(number, *(ctypes.c_int(value) for value in (real, effective, saved))))


def checked(result):
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def prctl(option, value):
    return checked(LIBC.prctl(option, ctypes.c_ulong(value), 0, 0, 0))


def empty_bounding_set():
    """Empty the bounding set: no descendant can ever gain a capability."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:
            if capability == 0:
                raise
            return  # past the last one that this kernel knows


def set_capabilities(mask, kept=0):
    """Set the calling thread's effective capabilities; those in `kept` can be taken up again."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    may = mask | kept
    low, high = (mask & 0xFFFFFFFF, may & 0xFFFFFFFF), (mask >> 32, may >> 32)
    checked(LIBC.capset(header, (ctypes.c_uint32 * 6)(*low, 0, *high, 0)))
