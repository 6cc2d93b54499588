"""The writable disks of one sandbox, swapped from outside: what was in them is gone at once, whole.

A disk is a folder in memory of bounded size. Where this process may mount (`sandboxes.disks.mounts`), fresh
ones are put in the place of the old in a fraction of a millisecond. Elsewhere there are no `Disks`, and
everything travels as archives.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ..base import Content, SandboxLost
from .layers import Layer, Stack, Stacks, store
from .mounts import Mounter, attach, clone, detach, mounter, new_overlay, new_tmpfs
from .namespaces import Disk, Place, find_place

SWAP_S = 10.0
"""Longest wait for disks where the caller names none; a swap takes a thousandth of it."""

STACK_LIMIT = 16
"""So many layers over each other are copied into one. The kernel bears more, in longer options of mounts."""
LEAST_BYTES = 64 << 10
"""What may still be written over layers that fill the disk: 0 would be no bound at all."""
FILES, WORK = "u", "w"
"""Folders of an upper mount. The kernel needs the second."""


class Drive(NamedTuple):
    """What is there now in the place of one disk."""

    stack: Stack = ()
    upper: str | None = None
    """The mount in the room that is written to; None for a plain folder in memory, which is not there."""


class Disks:
    """See the module. The first of `disks` is the working directory, the second `/tmp`."""

    def __init__(self, mounts: Mounter, place: Place, disks: Sequence[Disk], home: str) -> None:
        """`home` is a folder that has to be there, if it lies on one of the disks."""
        self._mounts = mounts
        self._store = store(mounts)
        self._place = place
        self._disks = disks
        self._home = PurePosixPath(home)
        self._drives = [Drive() for _ in disks]
        self._held: list[Layer] = []  # by this sandbox
        self._uppers: set[str] = set()  # in the room, and this sandbox's
        self._changing = threading.Lock()
        self._counting = threading.Lock()
        self._closed = False

    def swap(self, content: Content | None, *, timeout_s: float = SWAP_S) -> None:
        """Put fresh disks in the place of those that are there, with `content` on them.

        Nothing may be running on the old ones. Raises `SandboxLost`: it has to be closed then; ValueError
        when the content is no archive of a folder.
        """
        with self._change("fresh disks could not be had", timeout_s) as deadline:
            before, stacks = list(self._held), Stacks((), ())
            if content is not None:
                user, group = self._owner(self._disks[0])
                stacks = self._store.take(content, user, group, timeout_s=deadline - time.monotonic())
                self._held += (*stacks.work, *stacks.scratch)
            everywhere = dict(enumerate([*stacks, *[()] * len(self._disks[2:])]))
            self._mounts.run(lambda: self._renew(everywhere, {}), timeout_s=deadline - time.monotonic())
            self._release(before)

    def freeze(self, *, timeout_s: float = SWAP_S) -> Content:
        """What the working directory and `/tmp` hold now. It stays so, and the sandbox goes on elsewhere.

        Nothing may be running on the disks. Raises `SandboxLost`: it has to be closed then.
        """
        with self._change("the disks could not be frozen", timeout_s) as deadline:
            before = list(self._held)
            flat = {
                number: self._store.flattened(drive.stack, timeout_s=deadline - time.monotonic())
                for number, drive in enumerate(self._drives[:2])
                if len(drive.stack) >= STACK_LIMIT
            }
            self._mounts.run(lambda: self._freeze(flat), timeout_s=deadline - time.monotonic())
            self._release(before)
            stacks = Stacks(*(drive.stack for drive in self._drives[:2]))
            return self._store.keep(stacks, *self._owner(self._disks[0]))

    def copy(self, *, timeout_s: float = SWAP_S) -> Content:
        """The same by copying what was written, for processes that go on using the disks.

        They must not write meanwhile. Raises `SandboxLost`.
        """
        with self._change("the disks could not be copied", timeout_s) as deadline:
            folders = self._mounts.run(self._written, timeout_s=deadline - time.monotonic())
            stacks: list[Stack] = []
            for drive, folder in zip(self._drives, folders, strict=False):
                try:
                    left = deadline - time.monotonic()
                    layer = self._store.copied(folder, timeout_s=left, written=used_bytes(folder))
                finally:
                    os.close(folder)
                stacks.append((layer, *drive.stack))
            return self._store.keep(Stacks(*stacks), *self._owner(self._disks[0]))

    def close(self) -> None:
        """Let go of them; the sandbox has ended. Safe to call twice."""
        self._mounts.submit(self._let_go)

    @contextmanager
    def _change(self, what: str, timeout_s: float) -> Iterator[float]:
        """Do one thing at a time, until a deadline, and say what failed."""
        deadline = time.monotonic() + timeout_s
        try:
            if not self._changing.acquire(timeout=max(0.0, timeout_s)):
                raise TimeoutError
            try:
                yield deadline
            finally:
                self._changing.release()
                if self._closed:  # meanwhile
                    self._release(list(self._held))
        except TimeoutError:
            raise SandboxLost(f"{what} within {timeout_s:.1f} s") from None
        except OSError as error:
            raise SandboxLost(f"{what}: {error.strerror or error}") from None

    def _release(self, layers: Sequence[Layer]) -> None:
        """Stop holding these, once each, as far as they are still held."""
        gone: list[Layer] = []
        with self._counting:
            for layer in layers:
                if layer in self._held:
                    self._held.remove(layer)
                    gone.append(layer)
        self._store.let_go(gone)

    def _owner(self, disk: Disk) -> tuple[int, int]:
        """Of a user that is nobody outside, disks are the commands' own."""
        owner = self._place.owner(disk) or self._place.owner(self._disks[0])
        assert owner is not None, "`disks_of` has looked"
        return owner

    # What follows runs in the thread that mounts.

    def _freeze(self, flat: dict[int, Stack]) -> None:
        """Make layers of what is written, and mount over them. `flat` are stacks to be used instead."""
        self._refuse_when_closed()
        written = [
            number
            for number, drive in enumerate(self._drives[:2])
            if drive.upper is None or number in flat or any(Path(drive.upper, FILES).iterdir())
        ]
        plain: dict[int, int] = {}
        with self._mounts.inside(self._place.namespace):
            for number in written:
                path = self._disks[number].path
                if self._drives[number].upper is None:
                    plain[number] = clone(path)
                detach(path)
        stacks: dict[int, Stack] = {}
        for number in range(2):
            stack = flat.get(number, self._drives[number].stack)
            own = (self._frozen(self._drives[number].upper, plain.get(number)),) if number in written else ()
            stacks[number] = (*own, *stack)
        held = self._store.hold(Stacks(stacks[0], stacks[1]))
        self._held += (*held.work, *held.scratch)
        fresh = {number: stacks[number] for number in written}
        self._renew(fresh, {number: Path(stack[0].name).stat() for number, stack in fresh.items()})

    def _written(self) -> list[int]:
        """Descriptors of what is written to the working directory and `/tmp`."""
        self._refuse_when_closed()
        folders: list[int] = []
        for disk, drive in zip(self._disks[:2], self._drives, strict=False):
            if drive.upper is not None:
                folders.append(os.open(f"{drive.upper}/{FILES}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
                continue
            with self._mounts.inside(self._place.namespace):
                folders.append(clone(disk.path))
        return folders

    def _frozen(self, upper: str | None, mount: int | None) -> Layer:
        """A layer of what was written until now: in the room, or on a plain folder in memory."""
        if upper is None:
            assert mount is not None, "cloned by `_freeze`"
            upper = self._store.new_name("m")
            Path(upper).mkdir()
            attach(mount, upper)
            os.close(mount)
            name = upper
        else:
            name = f"{upper}/{FILES}"
            self._uppers.discard(upper)
        remove = partial(self._mounts.submit, lambda: take_away(upper))
        return Layer(name, remove, written=used_bytes(upper))

    def _renew(self, stacks: Mapping[int, Stack], roots: Mapping[int, os.stat_result]) -> None:
        """Put new mounts over these stacks, by number of the disk, in the place of what may be there.

        A folder itself looks like its one of `roots`, else as the backend makes it.
        """
        self._refuse_when_closed()
        made: dict[int, int] = {}
        drives = list(self._drives)
        try:
            for number, stack in stacks.items():
                disk, upper = self._disks[number], self._upper(self._disks[number], stack) if stack else None
                drives[number] = Drive(stack, upper)
                if upper is None:
                    made[number] = self._blank(disk)
                    continue
                if number in roots:
                    look_like(f"{upper}/{FILES}", roots[number])
                lowers = [layer.name for layer in stack]
                made[number] = new_overlay(lowers, f"{upper}/{FILES}", f"{upper}/{WORK}")
            with self._mounts.inside(self._place.namespace):
                for number, mount in made.items():
                    if number not in roots:  # where it is, what was there has been taken away
                        detach(self._disks[number].path)
                    attach(mount, self._disks[number].path)
        finally:
            for mount in made.values():
                os.close(mount)
        self._drives = drives
        self._drop_uppers({drive.upper for drive in drives})

    def _blank(self, disk: Disk) -> int:
        user, group = self._owner(disk)
        mount = new_tmpfs(
            size=disk.megabytes << 20,
            mode=disk.mode,
            user=user,
            group=group,
            attributes=disk.attributes,
        )
        self._make_home(disk, mount, ())
        return mount

    def _upper(self, disk: Disk, stack: Stack) -> str:
        """A folder in the room for what will be written over `stack`, and what the kernel needs beside it."""
        upper = self._store.new_name("m")
        left = (disk.megabytes << 20) - sum(layer.written for layer in stack)
        mount = new_tmpfs(size=max(left, LEAST_BYTES), mode=0o755)
        try:
            Path(upper).mkdir()
            attach(mount, upper)
        finally:
            os.close(mount)
        self._uppers.add(upper)
        files = Path(upper, FILES)
        files.mkdir()
        Path(upper, WORK).mkdir()
        os.chown(files, *self._owner(disk))
        files.chmod(disk.mode)
        descriptor = os.open(files, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._make_home(disk, descriptor, stack)
        finally:
            os.close(descriptor)
        return upper

    def _make_home(self, disk: Disk, folder: int, stack: Stack) -> None:
        """Make the home folder where it lies on this disk, and `stack` says nothing about it."""
        if not self._home.is_relative_to(disk.path):
            return
        inner = self._home.relative_to(disk.path)
        if any(os.path.lexists(Path(layer.name, inner)) for layer in stack):
            return
        user, group = self._owner(self._disks[0])
        path = PurePosixPath()
        for part in inner.parts:
            path /= part
            os.mkdir(path, 0o755, dir_fd=folder)
            os.chown(path, user, group, dir_fd=folder)

    def _drop_uppers(self, needed: AbstractSet[str | None]) -> None:
        for upper in self._uppers - needed:
            take_away(upper)
            self._uppers.discard(upper)

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise OSError("the sandbox was closed")

    def _let_go(self) -> None:
        if not self._closed:
            self._closed = True
            os.close(self._place.namespace)
            self._drop_uppers(set())
            self._release(list(self._held))


def used_bytes(place: str | int) -> int:
    """What the file system there holds."""
    disk = os.statvfs(place)
    return (disk.f_blocks - disk.f_bfree) * disk.f_frsize


def take_away(mount: str) -> None:
    """Remove a mount from the room."""
    detach(mount)
    Path(mount).rmdir()


def look_like(folder: str, other: os.stat_result) -> None:
    os.chown(folder, other.st_uid, other.st_gid)
    Path(folder).chmod(stat.S_IMODE(other.st_mode))
    os.utime(folder, ns=(other.st_atime_ns, other.st_mtime_ns))


def disks_of(pid: int, disks: Sequence[Disk], home: str, mark: str = "") -> Disks | None:
    """Those of the sandbox whose first process is `pid` here; None where they cannot be swapped.

    `mark` is part of the name of its control group; `home` is a folder that commands need.
    """
    mounts = mounter()
    paths = [PurePosixPath(disk.path) for disk in disks]
    if mounts is None or any(a != b and a.is_relative_to(b) for a in paths for b in paths):
        return None
    place = find_place(pid, mark)
    if place is not None and place.owner(disks[0]) is None:
        os.close(place.namespace)
        return None
    return None if place is None else Disks(mounts, place, disks, home)
