"""Location of a sandbox's disks: the namespaces of its first process, as this machine sees them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..bootstrap import SERVER_COMMAND
from .mounts import NO_DEVICES, NO_PROGRAMS, NO_SUID


@dataclass(frozen=True)
class Disk:
    """A tmpfs, as the sandbox's backend mounts it."""

    path: str
    megabytes: int
    mode: int
    user: int
    """Owner and group, as numbered inside."""
    group: int
    programs: bool = True
    """Whether files on it may be executed."""

    @property
    def attributes(self) -> int:
        return NO_SUID | NO_DEVICES | (0 if self.programs else NO_PROGRAMS)


@dataclass(frozen=True)
class Place:
    """A sandbox's mount namespace, and the map of its user ids to those outside."""

    namespace: int
    """A file descriptor."""
    users: tuple[tuple[int, int, int], ...]
    """(first inside, first outside, count)"""
    groups: tuple[tuple[int, int, int], ...]

    def owner(self, disk: Disk) -> tuple[int, int] | None:
        """Return a disk's owner and group outside; None when one has no number there."""
        user, group = outside(disk.user, self.users), outside(disk.group, self.groups)
        return None if user is None or group is None else (user, group)


def find_place(pid: int, mark: str) -> Place | None:
    """Locate the sandbox with first process `pid`, as seen here; None when no such process fits.

    The check guards against foreign processes: an engine elsewhere numbers other processes, and some runtimes
    keep files out of the kernel's reach. So the process must run our program, in a control group named
    `mark`.
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
    """Whether a process, given by its `/proc` folder, runs the program of `sandboxes.inside`."""
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
    """Translate an id of the namespace to the id outside, by the rows of `uid_map` or `gid_map`."""
    for inside, first, count in rows:
        if inside <= number < inside + count:
            return first + number - inside
    return None


def read_file(folder: int, name: str) -> bytes:
    with os.fdopen(os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder), "rb") as file:
        return file.read()
