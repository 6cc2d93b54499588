"""Where the disks of a sandbox are: the namespaces of its first process, as this machine sees them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..bootstrap import SERVER_COMMAND
from .mounts import NO_DEVICES, NO_PROGRAMS, NO_SUID


@dataclass(frozen=True)
class Disk:
    """A folder in memory, as the sandbox's backend makes it."""

    path: str
    megabytes: int
    mode: int
    user: int
    """Numbers of owner and group, inside."""
    group: int
    programs: bool = True
    """Whether what lies there may be run."""

    @property
    def attributes(self) -> int:
        return NO_SUID | NO_DEVICES | (0 if self.programs else NO_PROGRAMS)


@dataclass(frozen=True)
class Place:
    """Where the disks of a sandbox are: its namespace of mounts, and what its users are outside."""

    namespace: int
    """A descriptor."""
    users: tuple[tuple[int, int, int], ...]
    """(first inside, first outside, count)"""
    groups: tuple[tuple[int, int, int], ...]

    def owner(self, disk: Disk) -> tuple[int, int] | None:
        """A disk's owner and group outside; None when it has none there."""
        user, group = outside(disk.user, self.users), outside(disk.group, self.groups)
        return None if user is None or group is None else (user, group)


def find_place(pid: int, mark: str) -> Place | None:
    """Of the sandbox whose first process is `pid` here; None when that is no such process.

    An engine elsewhere has other processes than this machine, and some runtimes keep a sandbox's files out of
    the kernel's reach: the process must run our program, in a control group whose name has `mark` in it.
    """
    try:
        process = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not is_ours(process, mark):
            return None
        users, groups = id_map(process, "uid_map"), id_map(process, "gid_map")
        return Place(os.open("ns/mnt", os.O_RDONLY | os.O_CLOEXEC, dir_fd=process), users, groups)
    except (OSError, ValueError):
        return None
    finally:
        os.close(process)


def is_ours(process: int, mark: str) -> bool:
    """Whether the process whose folder in `/proc` this is runs the program of `sandboxes.inside`."""
    theirs = os.stat("ns/mnt", dir_fd=process)
    if os.path.samestat(theirs, Path("/proc/self/ns/mnt").stat()):
        return False  # or this machine's own folders would be unmounted
    command = read_file(process, "cmdline").split(b"\0")
    ours = [word.encode() for word in SERVER_COMMAND[1:]]  # whichever Python it is, and however started
    found = any(command[start : start + len(ours)] == ours for start in range(1, len(command)))
    return found and mark.encode() in read_file(process, "cgroup")


def id_map(process: int, name: str) -> tuple[tuple[int, int, int], ...]:
    rows = (row.split() for row in read_file(process, name).splitlines())
    return tuple((int(inside), int(first), int(count)) for inside, first, count in rows)


def outside(number: int, rows: Sequence[tuple[int, int, int]]) -> int | None:
    """What a user or group of a namespace is outside of it."""
    for inside, first, count in rows:
        if inside <= number < inside + count:
            return first + number - inside
    return None


def read_file(folder: int, name: str) -> bytes:
    with os.fdopen(os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder), "rb") as file:
        return file.read()
