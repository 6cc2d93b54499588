"""Mounts made from outside that appear inside a sandbox, by the mount API of Linux 5.2 (fsopen, move_mount).

One thread of this process has its own mount namespace, invisible to all others and gone with the process,
however that ends. It holds the *room*, a small tmpfs. Mounts in it have short relative names, so that mount
options, which are visible inside a sandbox, tell nothing about this machine. A mount is created detached and
then moved into a sandbox's namespace, which the thread enters (setns) for that moment.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from ..images.build import cache_folder

Result = TypeVar("Result")

UNSHARE, SETNS = {"x86_64": (272, 308), "aarch64": (97, 268)}.get(os.uname().machine, (0, 0))
OPEN_TREE, MOVE_MOUNT, FSOPEN, FSCONFIG, FSMOUNT = 428, 429, 430, 431, 432
"""System call numbers. Those over 424 are the same on every machine."""
CLONE_FS, CLONE_NEWNS = 0x200, 0x20000
MS_REC, MS_SLAVE = 0x4000, 0x80000
SET_STRING, CREATE = 1, 6  # FSCONFIG_…
CLOSE_ON_EXEC = 1  # FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC
CLONE_TREE = 1 | os.O_CLOEXEC  # OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC
EMPTY_PATH = 4  # MOVE_MOUNT_F_EMPTY_PATH: the mount that a descriptor names
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8
NO_SUID, NO_DEVICES, NO_PROGRAMS = 2, 4, 8  # MOUNT_ATTR_…
HERE = -100  # AT_FDCWD
PROBE_S = 10.0

logger = logging.getLogger(__name__)


class Mounter:
    """The thread with its own mount namespace. Runs jobs one by one; its directory is the room."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = queue.SimpleQueue()
        self._own = -1
        self._room = -1
        threading.Thread(target=self._work, name="mounts", daemon=True).start()

    def run(self, job: Callable[[], Result], *, timeout_s: float) -> Result:
        """Run `job` in the thread; return its result. Raises OSError at the deadline; the job may go on."""
        done = self.submit(job)
        try:
            return done.result(timeout_s)
        except TimeoutError:
            done.cancel()  # if it has not begun
            raise OSError(f"a mount was not made within {timeout_s:.1f} s") from None
        except CancelledError:
            raise OSError("the thread that mounts has ended") from None

    def submit(self, job: Callable[[], Result]) -> Future[Result]:
        """Queue a job without waiting. Safe in finalizers."""
        done: Future[Result] = Future()
        self._jobs.put((done, job))
        return done

    @contextmanager
    def inside(self, namespace: int) -> Iterator[None]:
        """Enter another mount namespace. Only inside a job, and only around calls of this module."""
        # A finalizer of anything at all would find itself among the sandbox's files.
        collecting = gc.isenabled()
        gc.disable()
        try:
            call("enter a sandbox's mounts", SETNS, namespace, CLONE_NEWNS)
            try:
                yield
            finally:
                self._go_home()
        finally:
            if collecting:
                gc.enable()

    def _go_home(self) -> None:
        call("come back from a sandbox's mounts", SETNS, self._own, CLONE_NEWNS)
        os.fchdir(self._room)

    def _work(self) -> None:
        while True:
            done, job = self._jobs.get()
            if done.set_running_or_notify_cancel():
                try:
                    done.set_result(job())
                except BaseException as error:  # raised in the waiting thread
                    done.set_exception(error)
            del done, job  # or the last one's result would live until the next

    def begin(self, place: Path) -> None:
        """Move this thread into its own namespace, and mount the room over `place`. The first job."""
        before = Path("/").stat()
        call("have mounts of our own", UNSHARE, CLONE_FS | CLONE_NEWNS)
        # What is unmounted outside is unmounted here too, and nothing of ours is seen outside.
        if library().mount(b"none", b"/", None, MS_REC | MS_SLAVE, None) != 0:
            raise failed("keep mounts to ourselves")
        self._own = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        os.umask(0o022)
        room = new_tmpfs(size=16 << 20, mode=0o755)
        attach(room, str(place))
        os.close(room)
        self._room = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with self.inside(self._own):
            pass
        after = Path("/").stat()
        if (before.st_dev, before.st_ino) != (after.st_dev, after.st_ino):
            raise OSError("this process has another root folder than its mounts")
        self._try_overlay(place)

    def _try_overlay(self, place: Path) -> None:
        """Try the overlay needed later: lower layer on the disk of `place`, upper layer in memory."""
        upper = new_tmpfs(size=1 << 20, mode=0o755)
        try:
            Path("probe").mkdir()
            attach(upper, "probe")
            for name in ("probe/upper", "probe/work"):
                Path(name).mkdir()
            os.close(new_overlay([str(place.parent)], "probe/upper", "probe/work"))
        finally:
            os.close(upper)
            detach("probe")
            Path("probe").rmdir()


@cache
def library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def call(what: str, number: int, *arguments: Any) -> int:
    """Make a system call. Raises OSError saying that `what` failed."""
    result = library().syscall(number, *arguments)
    if result < 0:
        raise failed(what)
    return result


def failed(what: str, said: str = "") -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"cannot {what}: {said or os.strerror(number)}")


def new_mount(kind: str, options: Sequence[tuple[str, str]], attributes: int) -> int:
    """Create a detached mount and return its descriptor. Closed before it is attached, the mount is gone."""
    what = f"make a mount of {kind}"
    context = call(what, FSOPEN, kind.encode(), CLOSE_ON_EXEC)
    try:
        try:
            for key, value in options:
                call(what, FSCONFIG, context, SET_STRING, key.encode(), value.encode(), 0)
            call(what, FSCONFIG, context, CREATE, None, None, 0)
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror}{complaint(context)}") from None
        return call(what, FSMOUNT, context, CLOSE_ON_EXEC, attributes)
    finally:
        os.close(context)


def complaint(context: int) -> str:
    """Return the kernel's message about a refused mount."""
    try:
        return f" ({os.read(context, 4096).decode('utf-8', 'replace').strip()})"
    except OSError:
        return ""


def new_tmpfs(
    *,
    size: int,
    mode: int,
    user: int = 0,
    group: int = 0,
    attributes: int = NO_SUID | NO_DEVICES,
) -> int:
    """Create a detached tmpfs of at most `size` bytes, rounded to pages."""
    options = [("size", str(size)), ("mode", f"{mode:o}")]
    options += [("uid", str(user)), ("gid", str(group)), ("source", "tmpfs")]
    return new_mount("tmpfs", options, attributes)


def new_overlay(lowers: Sequence[str], upper: str, work: str) -> int:
    """Create a detached overlay: `lowers` from top to bottom, writes go to `upper`."""
    options = [("source", "overlay"), ("lowerdir", ":".join(lowers))]
    options += [("upperdir", upper), ("workdir", work)]
    options += [("redirect_dir", "on"), ("metacopy", "off"), ("index", "off"), ("xino", "on")]
    return new_mount("overlay", options, NO_SUID | NO_DEVICES)


def read_only_overlay(lowers: Sequence[str]) -> int:
    """Create a detached read-only overlay of two or more folders."""
    options = [("source", "overlay"), ("lowerdir", ":".join(lowers)), ("redirect_dir", "follow")]
    return new_mount("overlay", options, NO_SUID | NO_DEVICES | NO_PROGRAMS)


def clone(path: str) -> int:
    """Return a detached bind mount of `path`."""
    return call(f"mount {path} once more", OPEN_TREE, HERE, os.fsencode(path), CLONE_TREE)


def attach(mount: int, path: str) -> None:
    """Attach a detached mount at a path. Its descriptor stays valid."""
    call(f"mount {path}", MOVE_MOUNT, mount, b"", HERE, os.fsencode(path), EMPTY_PATH)


def detach(path: str) -> None:
    """Unmount lazily. Descriptors open on the mount stay valid."""
    if library().umount2(os.fsencode(path), MNT_DETACH | UMOUNT_NOFOLLOW) != 0:
        raise failed(f"unmount {path}")


def mounter() -> Mounter | None:
    """Return this process's mounter; None without permission or on an old kernel. Tried once."""
    return _mounter(os.getpid())


@cache
def _mounter(_pid: int) -> Mounter | None:
    """Keyed by `_pid`, because a forked child has no threads of its parent."""
    if os.geteuid() != 0 or not UNSHARE:
        return None
    made = Mounter()
    try:
        place = cache_folder() / "layers" / "room"
        place.mkdir(parents=True, exist_ok=True)
        made.run(lambda: made.begin(place), timeout_s=PROBE_S)
    except OSError as error:
        logger.info("disks are not swapped here: %s", error)
        return None
    return made
