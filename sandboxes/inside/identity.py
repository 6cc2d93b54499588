"""Who runs what: the program inside under a user of its own, commands and file operations under the policy's.

The kernel keeps the two apart by their numbers alone. A command cannot signal this program, trace it, read
its memory, its environment or its descriptors, nor touch its priority, its limits or the processors it runs
on: each of these asks for an equal user id. No thread of this program ever has the commands' number as its
real or saved one, because for a thread's sake the whole process could then be killed or limited. What the
program needs in turn are two capabilities, taken while it is still the first user of its namespace: SETUID,
so that a child can become the policy's user just before it becomes a command, and KILL, to end them. No
command can have them: the set of what may ever be gained is emptied, and it is inherited.

Files are opened under the policy's user as well (`setfsuid`, which changes nothing but that), so permissions
hold for the tools as they hold for commands.
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
    """The user of commands; `server` is the user of this program, None when nothing keeps the two apart."""

    def __init__(self, user, group, server):
        self.user = user
        self.group = group
        self.server = server

    def take(self):
        """Become the server's user, for good. Raises OSError where that is not allowed."""
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
        """Be the policy's user in the calling thread, so that what is started meanwhile is that user's."""
        if self.server is None:
            yield
            return
        set_user_ids(self.user, self.user, self.user)
        try:
            yield
        finally:
            set_user_ids(self.server, self.server, self.server)
            LIBC.setfsuid(self.user)
            prctl(PR_SET_DUMPABLE, 0)  # a changed user may have set it to what the machine prefers

    @contextmanager
    def acting_as_user(self):
        """Let the kernel judge what the calling thread does as if the policy's user did it.

        Only its effective user changes, which gives others no right over this program.
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
            prctl(PR_SET_DUMPABLE, 0)  # a changed user may have set it to what the machine prefers

    @property
    def reaches_everyone(self):
        """Whether `signal_everyone` can spare this program."""
        return self.server is not None or os.getpid() == 1

    def signal_everyone(self, number):
        """Signal every process of the policy's user, in one step that no fork can outrun.

        Also those of this program's user that are not yet or no longer this process or the first one: its
        children that wait to become commands.
        """
        with self.acting_as_user():
            try:
                os.kill(-1, number)
            except OSError:
                pass  # there is nobody


def refuse_traceable():
    """Raise PermissionError where whoever changes its user may be traced by the new one for a moment."""
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
    """Let nothing that is started from here ever gain a capability."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:
            if capability == 0:
                raise
            return  # past the last one that this kernel knows


def set_capabilities(mask, kept=0):
    """Make these the calling thread's effective capabilities; those in `kept` it may take up again."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    may = mask | kept
    low, high = (mask & 0xFFFFFFFF, may & 0xFFFFFFFF), (mask >> 32, may >> 32)
    checked(LIBC.capset(header, (ctypes.c_uint32 * 6)(*low, 0, *high, 0)))
