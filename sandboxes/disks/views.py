"""A view of its image for each sandbox: overlays without an upper layer over the image's folders.

Bind mounts of one folder share its inodes, and with them file locks and inotify watches, for which no right
to write is needed: code in one sandbox could signal to another, or see which files it opens. An overlay has
inodes of its own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

from .mounts import NO_DEVICES, NO_SUID, Mounter, attach, clone, detach, mounter, new_mount, new_tmpfs
from .namespaces import Place, find_place

POLL_S = 0.001
EMPTY_BYTES = 4096
"""Size of the empty folder that each overlay has as well: one without an upper layer needs two lower ones."""


def view_apart(pid: int, folders: Mapping[str, Path], deadline: float) -> bool:
    """Cover folders of the sandbox with first process `pid` by overlays of `folders`, by path inside.

    Waits until the sandbox's own mounts are made. Returns False where this process may not mount, and when
    the sandbox ended meanwhile. Raises OSError when a mount fails, and at the deadline.
    """
    mounts = mounter()
    if mounts is None:
        return False
    while (place := _place(pid)) is None:
        if not Path(f"/proc/{pid}").exists():
            return False  # it ended, and tells the reason to its caller
        if time.monotonic() > deadline:
            raise OSError("the sandbox did not come up, so its image could not be mounted")
        time.sleep(POLL_S)
    try:
        mounts.run(lambda: _cover(place, folders, mounts), timeout_s=deadline - time.monotonic())
    finally:
        os.close(place.namespace)
    return True


def _place(pid: int) -> Place | None:
    """Find the sandbox's namespaces once its program runs; before, the process is the one that mounts."""
    try:
        return None if Path(f"/proc/{pid}/comm").read_text() == "bwrap\n" else find_place(pid, "")
    except OSError:
        return None


def _cover(place: Place, folders: Mapping[str, Path], mounts: Mounter) -> None:
    """Mount the overlays. A job of the mounter.

    Their lower folders are in the room, so that mount options tell nothing about this machine, for as long as
    the overlays are made; then the overlays alone hold them.
    """
    made: dict[str, int] = {}
    with ExitStack() as shown:
        empty = _show(shown, new_tmpfs(size=EMPTY_BYTES, mode=0o755), "empty")
        try:
            for number, (path, folder) in enumerate(folders.items()):
                lower = _show(shown, clone(str(folder)), f"image{number}")
                options = [("source", "image"), ("lowerdir", f"{lower}:{empty}")]
                made[path] = new_mount("overlay", options, NO_SUID | NO_DEVICES)
            with mounts.inside(place.namespace):
                for path, mount in made.items():
                    attach(mount, path)
        finally:
            for mount in made.values():
                os.close(mount)


def _show(shown: ExitStack, mount: int, name: str) -> str:
    """Attach a detached mount in the room until `shown` closes; returns its name there."""
    try:
        Path(name).mkdir()
        shown.callback(Path(name).rmdir)
        attach(mount, name)
        shown.callback(detach, name)
    finally:
        os.close(mount)
    return name


def coverable(root: Path, taken: list[str]) -> dict[str, Path]:
    """Return the top folders of an image's root that hold files and none of the paths in `taken`."""
    covered = {PurePosixPath(path).parts[1] for path in taken}
    return {
        f"/{entry.name}": entry
        for entry in sorted(root.iterdir())
        if entry.is_dir() and not entry.is_symlink() and entry.name not in covered and any(entry.iterdir())
    }
