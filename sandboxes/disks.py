"""The writable disks of one sandbox, swapped from outside: what was in them is gone at once, whole.

A disk is a folder in memory of bounded size. Where this process may mount (`sandboxes.mounts`), fresh ones
are put in the place of the old in a fraction of a millisecond. Elsewhere there are no `Disks`, and everything
travels as archives.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from .base import Content, SandboxLost
from .channel import SERVER_COMMAND
from .mounts import NO_DEVICES, NO_PROGRAMS, NO_SUID, Mounter, attach, detach, mounter, new_tmpfs

SWAP_S = 10.0
"""Longest wait for disks where the caller names none; a swap takes a thousandth of it."""

logger = logging.getLogger(__name__)


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


class Disks:
    """See the module. The first of `disks` is the working directory, the second `/tmp`."""

    def __init__(self, mounts: Mounter, place: Place, disks: Sequence[Disk], home: str) -> None:
        """`home` is a folder that has to be there, if it lies on one of the disks."""
        self._mounts = mounts
        self._place = place
        self._disks = disks
        self._home = PurePosixPath(home)
        self._closed = False

    def swap(self, content: Content | None, *, timeout_s: float = SWAP_S) -> None:
        """Put fresh disks in the place of those that are there, with `content` on them.

        Nothing may be running on the old ones. Raises `SandboxLost`: it has to be closed then.
        """
        if content is not None:
            raise NotImplementedError
        try:
            self._mounts.run(self._swap_blank, timeout_s=timeout_s)
        except OSError as error:
            raise SandboxLost(f"fresh disks could not be had: {error.strerror or error}") from None

    def _swap_blank(self) -> None:
        if self._closed:
            raise OSError("the sandbox was closed")
        made: list[int] = []
        try:
            made.extend(self._blank(disk) for disk in self._disks)
            with self._mounts.inside(self._place.namespace):
                for disk, mount in zip(self._disks, made, strict=True):
                    detach(disk.path)
                    attach(mount, disk.path)
        finally:
            for mount in made:
                os.close(mount)

    def _blank(self, disk: Disk) -> int:
        user, group = self._owner(disk)
        mount = new_tmpfs(
            megabytes=disk.megabytes, mode=disk.mode, user=user, group=group, attributes=disk.attributes
        )
        self._make_home(disk, mount)
        return mount

    def _owner(self, disk: Disk) -> tuple[int, int]:
        """Of a user that is nobody outside, disks are the commands' own."""
        owner = self._place.owner(disk) or self._place.owner(self._disks[0])
        assert owner is not None, "`disks_of` has looked"
        return owner

    def _make_home(self, disk: Disk, mount: int) -> None:
        """Make the home folder where it lies on this disk."""
        if not self._home.is_relative_to(disk.path):
            return
        user, group = self._owner(self._disks[0])
        path = PurePosixPath()
        for part in self._home.relative_to(disk.path).parts:
            path /= part
            os.mkdir(path, 0o755, dir_fd=mount)
            os.chown(path, user, group, dir_fd=mount)

    def close(self) -> None:
        """Let go of them; the sandbox has ended. Safe to call twice."""
        self._mounts.submit(self._let_go)

    def _let_go(self) -> None:
        if not self._closed:
            self._closed = True
            os.close(self._place.namespace)


def disks_of(pid: int, disks: Sequence[Disk], home: str, mark: str = "") -> Disks | None:
    """Those of the sandbox whose first process is `pid` here; None where they cannot be swapped.

    An engine elsewhere has other processes than this machine, and some runtimes keep a sandbox's files out of
    the kernel's reach: `pid` must run our program, in a control group whose name has `mark` in it.
    """
    mounts = mounter()
    paths = [PurePosixPath(disk.path) for disk in disks]
    if mounts is None or any(a != b and a.is_relative_to(b) for a in paths for b in paths):
        return None
    try:
        process = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not is_ours(process, mark):
            return None
        users, groups = id_map(process, "uid_map"), id_map(process, "gid_map")
        place = Place(os.open("ns/mnt", os.O_RDONLY | os.O_CLOEXEC, dir_fd=process), users, groups)
    except (OSError, ValueError):
        return None
    finally:
        os.close(process)
    if place.owner(disks[0]) is None:
        os.close(place.namespace)
        return None
    return Disks(mounts, place, disks, home)


def is_ours(process: int, mark: str) -> bool:
    """Whether the process whose folder in `/proc` this is runs the program of `sandboxes.inside`."""
    command = read_file(process, "cmdline").split(b"\0")
    ours = [word.encode() for word in SERVER_COMMAND]
    return command[: len(ours)] == ours and mark.encode() in read_file(process, "cgroup")


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
