"""The writable disks of one sandbox, swapped from outside: all earlier content is gone at once.

A disk is a tmpfs of bounded size, alone or as the upper layer of an overlay. Where this process may mount
(`sandboxes.disks.mounts`), fresh disks replace the old ones in a fraction of a millisecond. Elsewhere there
are no `Disks`, and all content travels as archives.
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
"""A stack of this many layers is copied into one. The kernel allows more, with longer mount options."""
LEAST_BYTES = 64 << 10
"""Least size of an upper layer, even if the layers below fill the disk: tmpfs takes 0 as unlimited."""
FILES, WORK = "u", "w"
"""Folders of an upper mount. The kernel needs the second."""


class Drive(NamedTuple):
    """The current mount of one disk."""

    stack: Stack = ()
    upper: str | None = None
    """Name in the room of the mount that takes the writes; None for a plain tmpfs, which is not in the
    room."""


class Disks:
    """The disks of one sandbox. The first of `disks` is the working directory, the second `/tmp`."""

    def __init__(self, mounts: Mounter, place: Place, disks: Sequence[Disk], home: str) -> None:
        """`home` is a folder that must exist, if its path lies on one of the disks."""
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
        """Replace all disks by fresh ones that hold `content`.

        No process may be running on the old disks. Raises `SandboxLost`, after which the sandbox must be
        closed, and ValueError when the content is no archive of a folder.
        """
        with self._change("fresh disks could not be had", timeout_s) as deadline:
            before, stacks = list(self._held), Stacks((), ())
            if content is not None:
                user, group = self._owner(self._disks[0])
                stacks = self._store.take(content, user, group, timeout_s=deadline - time.monotonic())
                self._held += (*stacks.work, *stacks.scratch)
            everywhere = dict(enumerate([*stacks, *[()] * len(self._disks[2:])]))
            self._mounts.run(lambda: self._renew(everywhere, {}), timeout_s=deadline - time.monotonic())
            self._release(before)  # only now are their mounts gone

    def freeze(self, *, timeout_s: float = SWAP_S) -> Content:
        """Snapshot the working directory and `/tmp` without copying: written layers become read-only.

        The sandbox goes on in a new upper layer. No process may be running on the disks. Raises
        `SandboxLost`, after which the sandbox must be closed.
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
        """Snapshot by copying what was written, for processes that keep files open on the disks.

        They must be stopped meanwhile. Raises `SandboxLost`.
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
        """Release the disks of a sandbox that has ended. Idempotent."""
        self._mounts.submit(self._let_go)

    @contextmanager
    def _change(self, what: str, timeout_s: float) -> Iterator[float]:
        """Serialize changes, bound each by a deadline, and translate failures."""
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
        """Drop one hold on each of these layers, as far as they are still held."""
        gone: list[Layer] = []
        with self._counting:
            for layer in layers:
                if layer in self._held:
                    self._held.remove(layer)
                    gone.append(layer)
        self._store.let_go(gone)

    def _owner(self, disk: Disk) -> tuple[int, int]:
        """Return the disk's owner outside; where its user is not mapped, the commands' user."""
        owner = self._place.owner(disk) or self._place.owner(self._disks[0])
        assert owner is not None, "`disks_of` has looked"
        return owner

    # What follows runs in the thread that mounts.

    def _freeze(self, flat: dict[int, Stack]) -> None:
        """Turn written files into layers, and mount over them. `flat`: stacks that replace the current."""
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
        """Open the folders that hold what was written to the working directory and `/tmp`."""
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
        """Make a layer of what was written until now: an upper folder in the room, or a plain tmpfs."""
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
        """Mount fresh disks over these stacks, by number of the disk, in place of the current mounts.

        A disk's top folder gets owner, mode and times of its entry in `roots`, else those of a new disk.
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
                    if number not in roots:  # `_freeze` has detached those in `roots`
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
        """Make the upper folder for writes over `stack`, and the work folder that overlayfs needs."""
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
        """Make the home folder if its path is on this disk and `stack` does not contain it."""
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
    """Return the bytes in use on the file system at this place."""
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
    """Find the disks of the sandbox whose first process is `pid` here; None where it cannot be mounted into.

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
