"""Read-only layers under the sandboxes' overlays: content unpacked once, and frozen snapshots.

A *layer* is immutable; an overlay shows it with a sandbox's own writes above. A layer is either a folder on
disk, under `layers/` in the cache, or a tmpfs that a sandbox wrote to until it was frozen. It is removed when
no `Content` of its key is alive and no sandbox uses it. When this process ends, in whatever way, layers in
memory vanish with it, and `reap_layers` removes those on disk.
"""

from __future__ import annotations

import atexit
import fcntl
import io
import itertools
import os
import queue
import shutil
import subprocess
import tarfile
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from ..backend import Owner, this_host
from ..base import Content
from ..images.build import cache_folder
from ..inside.files import lay as lay_member
from ..inside.trees import packed
from .mounts import Mounter, clone, read_only_overlay

LAYERS_BYTES = 32 << 30
"""Size of unpacked content on disk above which unused content is evicted, least recently used first."""
LIFETIME_S = 30 * 24 * 3600.0
"""After this time a folder of an owner on another machine is a leftover, unless it is locked."""
NUMBERS = itertools.count(1)
"""Name things in this process's folder on disk and in the room."""
PACKED_LIMIT = 1 << 30
"""Size limit of a snapshot's archive."""


class Layer:
    """One immutable folder. `name` is relative to the mounter's room."""

    def __init__(
        self, name: str, remove: Callable[[], object], *, written: int = 0, on_disk: int = 0
    ) -> None:
        self.name = name
        self.remove = remove
        self.written = written
        """Bytes in memory that a sandbox wrote. They count against the disk size of its forks."""
        self.on_disk = on_disk
        self.uses = 0


Stack = tuple[Layer, ...]
"""Layers of an overlay, uppermost first. An empty stack is an empty folder."""


class Stacks(NamedTuple):
    work: Stack
    scratch: Stack


class Key(NamedTuple):
    content: str
    user: int
    """Owner of the files, as numbered outside."""
    group: int


class Entry:
    """The state of one content. `ready` is set when the content is unpacked."""

    def __init__(self) -> None:
        self.ready: Future[Stacks] = Future()
        self.meant_by: set[int] = set()
        """Ids of the live `Content` and `Snapshot` objects with this key."""
        self.awaited = 0
        self.can_be_had_again = True

    def layers(self) -> Stack:
        return (*self.ready.result().work, *self.ready.result().scratch) if self.ready.done() else ()


class Snapshot:
    """The disks' content at one moment; kept while a `Content` made of it is alive."""

    def __init__(self, store: Store, stacks: Stacks) -> None:
        self._store = store
        self._stacks = stacks
        self.key = f"snapshot-{uuid4().hex}"

    def content(self) -> Content:
        return Content(self.key, self.archive, self.scratch)

    def archive(self) -> bytes:
        return self._store.pack(self._stacks.work)

    def scratch(self) -> bytes:
        return self._store.pack(self._stacks.scratch)


class Store:
    """The layers of this process. Thread-safe."""

    def __init__(self, mounts: Mounter, *, disk_bytes: int = LAYERS_BYTES) -> None:
        self._mounts = mounts
        self._disk_bytes = disk_bytes
        self._lock = threading.Lock()
        self._entries: dict[Key, Entry] = {}  # the longest unused first
        self._chores: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._tidy, name="layers", daemon=True).start()

    def take(self, content: Content, user: int, group: int, *, timeout_s: float) -> Stacks:
        """Return the layers of `content`, unpacked when missing. The caller releases them by `let_go`.

        Concurrent callers for one key wait for one unpacking. Raises OSError, TimeoutError.
        """
        key = Key(content.key, user, group)
        with self._lock:
            entry = self._entries.pop(key, None)
            first = entry is None
            entry = entry or Entry()
            self._entries[key] = entry
            entry.awaited += 1
            self._means(content, key, entry)
        try:
            if first:
                self._fill(key, entry, content, timeout_s)
            return self.hold(entry.ready.result(timeout_s))
        finally:
            with self._lock:
                entry.awaited -= 1
            if first:
                self._chores.put(self._evict)

    def hold(self, stacks: Stacks) -> Stacks:
        with self._lock:
            for layer in (*stacks.work, *stacks.scratch):
                layer.uses += 1
        return stacks

    def let_go(self, layers: Iterable[Layer]) -> None:
        """Release layers. Never waits."""
        layers = tuple(layers)
        self._chores.put(lambda: self._release(layers))

    def keep(self, stacks: Stacks, user: int, group: int) -> Content:
        """Return a content for existing layers."""
        snapshot = Snapshot(self, stacks)
        entry, key = Entry(), Key(snapshot.key, user, group)
        entry.can_be_had_again = False
        entry.ready.set_result(self.hold(stacks))
        content = snapshot.content()
        with self._lock:
            self._entries[key] = entry
            self._means(snapshot, key, entry)
        return content

    def _means(self, thing: object, key: Key, entry: Entry) -> None:
        """Keep the entry of `key` until `thing` is garbage-collected."""
        number = id(thing)
        if number not in entry.meant_by:
            entry.meant_by.add(number)
            # Finalizers run in the middle of anything, so they only leave a note.
            forget = weakref.finalize(thing, self._chores.put, lambda: self._forget(key, entry, number))
            forget.atexit = False

    def _fill(self, key: Key, entry: Entry, content: Content, timeout_s: float) -> None:
        try:
            work = self._unpacked(content.archive(), key, timeout_s)
            scratch = () if content.scratch is None else self._unpacked(content.scratch(), key, timeout_s)
            entry.ready.set_result(self.hold(Stacks(work, scratch)))
        except BaseException as error:
            with self._lock:
                self._entries.pop(key, None)
            entry.ready.set_exception(error)

    def _unpacked(self, archive: bytes, key: Key, timeout_s: float) -> Stack:
        folder = self.new_folder()
        try:
            unpack(archive, folder, key.user, key.group)
            return (self.on_disk(folder, timeout_s, size=len(archive)),)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def new_folder(self) -> Path:
        """Make an empty folder on disk for a future layer."""
        with self._lock:
            own = own_folder(os.getpid())
        folder = own / str(next(NUMBERS))
        folder.mkdir(mode=0o755)
        folder.chmod(0o755)
        return folder

    def on_disk(self, folder: Path, timeout_s: float, *, size: int = 0, written: int = 0) -> Layer:
        """Return a layer for a complete folder of about `size` bytes."""
        name = self.new_name("d")
        self._mounts.run(lambda: Path(name).symlink_to(folder), timeout_s=timeout_s)

        def remove() -> None:
            self._mounts.submit(Path(name).unlink)
            shutil.rmtree(folder, ignore_errors=True)

        return Layer(name, remove, on_disk=size, written=written)

    def new_name(self, kind: str) -> str:
        """Return a new name in the room. Short, because a mount option has 255 bytes at most."""
        return f"{kind}{next(NUMBERS):x}"

    def open(self, stack: Stack, *, timeout_s: float) -> int:
        """Open a read-only view of a stack; returns a descriptor."""

        def show() -> int:
            if len(stack) == 1:
                return clone(stack[0].name)
            return read_only_overlay([layer.name for layer in stack])

        return self._mounts.run(show, timeout_s=timeout_s)

    def pack(self, stack: Stack) -> bytes:
        """Pack a stack into a tar archive. Raises OSError."""
        if not stack:
            return tarfile.NUL * tarfile.BLOCKSIZE * 2
        descriptor = self.open(stack, timeout_s=60.0)
        try:
            return packed(f"/proc/self/fd/{descriptor}/.", PACKED_LIMIT)
        finally:
            os.close(descriptor)

    def flattened(self, stack: Stack, *, timeout_s: float) -> Stack:
        """Copy a stack into a single layer. Raises OSError."""
        deadline = time.monotonic() + timeout_s
        descriptor = self.open(stack, timeout_s=timeout_s)
        try:
            return (self.copied(descriptor, timeout_s=deadline - time.monotonic()),)
        finally:
            os.close(descriptor)

    def copied(self, descriptor: int, *, timeout_s: float, written: int = 0) -> Layer:
        """Copy a folder into a layer, with the whiteouts and attributes of overlayfs. Raises OSError."""
        deadline = time.monotonic() + timeout_s
        folder = self.new_folder()
        command = ["cp", "-a", "--", f"/proc/self/fd/{descriptor}/.", str(folder)]
        try:
            subprocess.run(
                command,
                pass_fds=[descriptor],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=max(0.0, timeout_s),
                check=True,
            )
            return self.on_disk(folder, deadline - time.monotonic(), written=written)
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, subprocess.SubprocessError):
                raise OSError(f"a layer could not be copied: {error}") from None
            raise

    # What follows runs in the thread that tidies up.

    def _tidy(self) -> None:
        while True:
            self._chores.get()()

    def _release(self, layers: Iterable[Layer]) -> None:
        with self._lock:
            for layer in layers:
                layer.uses -= 1
            gone = [layer for layer in layers if layer.uses == 0]
        for layer in gone:
            layer.remove()

    def _forget(self, key: Key, entry: Entry, number: int) -> None:
        with self._lock:
            entry.meant_by.discard(number)
            if entry.meant_by or entry.awaited or self._entries.get(key) is not entry:
                return
            del self._entries[key]
        self._release(entry.layers())

    def _evict(self) -> None:
        """Remove the least recently used contents while the layers on disk exceed their limit."""
        with self._lock:
            size = sum(layer.on_disk for entry in self._entries.values() for layer in entry.layers())
            gone: list[Layer] = []
            for key, entry in list(self._entries.items()):
                layers = entry.layers()
                if size <= self._disk_bytes:
                    break
                if entry.can_be_had_again and not entry.awaited and all(layer.uses == 1 for layer in layers):
                    del self._entries[key]
                    gone += layers
                    size -= sum(layer.on_disk for layer in layers)
        self._release(gone)


@cache
def store(mounts: Mounter) -> Store:
    """Return this process's store."""
    return Store(mounts)


def unpack(archive: bytes, folder: Path, user: int, group: int) -> None:
    """Unpack an archive into an empty folder, as the program inside would, with other owners.

    Raises ValueError for an archive that leaves the folder or is invalid, PermissionError for a link that
    leads out of it.
    """
    folders: set[str] = set()
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
            for member in tar:
                lay_member(str(folder), member, tar, folders)
    except tarfile.TarError as error:
        raise ValueError(f"content that is no tar archive: {error}") from None
    os.chown(folder, user, group)
    for path, inner, files in os.walk(folder):
        Path(path).chmod(0o755)
        for name in inner + files:
            os.chown(Path(path, name), user, group, follow_symlinks=False)


@cache
def own_folder(pid: int) -> Path:
    """Return the folder for this process's layers, locked for the life of the process."""
    folder = cache_folder() / "layers" / str(Owner.current(LIFETIME_S))
    folder.mkdir(parents=True)
    folder.chmod(0o700)  # no other user here may run files that a policy made
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(lock, fcntl.LOCK_EX)
    atexit.register(remove_own, folder, pid)
    return folder


def leave_no_layers() -> None:
    """Remove this process's folder before a kill that skips `atexit`. No sandbox may be open."""
    if own_folder.cache_info().currsize:
        remove_own(own_folder(os.getpid()), os.getpid())
        own_folder.cache_clear()


def remove_own(folder: Path, pid: int) -> None:
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


def reap_layers(cache: Path) -> list[str]:
    """Remove the layers of dead owners; return their names."""
    removed = []
    for folder in sorted(cache.glob("layers/*.*.*.*")):
        try:
            owner = Owner.parse(folder.name)
            if owner.host == this_host() and not owner.gone():
                continue
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (ValueError, OSError):
            continue  # not ours, or gone meanwhile
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        except OSError:
            continue  # locked by a live owner elsewhere
        finally:
            os.close(lock)
        removed.append(f"layers {folder}")
    return removed
