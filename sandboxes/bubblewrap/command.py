"""The command line of a bubblewrap sandbox: mounts and users."""

from __future__ import annotations

import stat
from functools import cache
from pathlib import Path

from ..base import SandboxSpec
from ..bootstrap import SERVER_COMMAND
from ..disks.namespaces import Disk
from ..images.build import ENVIRONMENT_FOLDER
from ..remote.sandbox import SHM_MB, base_environment, user_and_group
from .cgroups import Cgroup
from .user_maps import PendingUserMap

STARTING_CAPABILITIES = tuple(
    f"CAP_{name}" for name in ("SETUID", "SETGID", "SETPCAP", "KILL", "CHOWN", "SYS_RESOURCE")
)
"""Initial capabilities of the program inside, in its user namespace. It keeps SETUID and KILL
(`inside.identity`).
"""
MOUNTED_ANEW = ("proc", "dev", "sys", "tmp", "run", "lost+found")


def writable_disks(spec: SandboxSpec) -> tuple[Disk, ...]:
    """Return the writable mounts that `bubblewrap_command` makes."""
    uid, gid = user_and_group(spec)
    return (
        Disk(spec.workdir, spec.disk_mb, 0o755, uid, gid),
        Disk("/tmp", spec.disk_mb, 0o1777, 0, 0),
        Disk("/dev/shm", SHM_MB, 0o1777, 0, 0),
    )


def bubblewrap_command(
    spec: SandboxSpec, options: list[str], environment: Path, users: PendingUserMap | None
) -> list[str]:
    """Return the command line of a sandbox whose first process is the program of `sandboxes.inside`."""
    command = ["bwrap", "--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--as-pid-1"]
    command += ["--cap-drop", "ALL", "--hostname", "sandbox", "--clearenv"]
    if users is not None:
        command += ["--uid", "0", "--gid", "0", *users.options]
        command += [word for name in STARTING_CAPABILITIES for word in ("--cap-add", name)]
    else:
        uid, gid = user_and_group(spec)
        command += ["--uid", str(uid), "--gid", str(gid), "--disable-userns"]
    command += ["--share-net"] if spec.network else []
    for key, value in base_environment(spec).items():
        command += ["--setenv", key, value]
    command += options
    command += ["--ro-bind", str(environment), ENVIRONMENT_FOLDER, "--proc", "/proc", *proc_mounts()]
    command += ["--dev", "/dev"]
    disk = str(spec.disk_mb << 20)
    command += ["--perms", "1777", "--size", str(SHM_MB << 20), "--tmpfs", "/dev/shm"]
    command += ["--mqueue", "/dev/mqueue", "--remount-ro", "/dev"]
    command += ["--perms", "1777", "--size", disk, "--tmpfs", "/tmp"]
    command += ["--perms", "0755", "--size", disk, "--tmpfs", spec.workdir, "--remount-ro", "/"]
    return [*command, "--chdir", "/", "--", *SERVER_COMMAND]


def root_mounts(root: Path) -> list[str]:
    """Mount the base's folders into an empty root, so that a working directory can be created beside them."""
    mounts = []
    for entry in sorted(root.iterdir()):
        if entry.is_symlink():
            mounts += ["--symlink", str(entry.readlink()), f"/{entry.name}"]
        elif entry.name not in MOUNTED_ANEW and entry.is_dir():
            mounts += ["--ro-bind", str(entry), f"/{entry.name}"]
    return mounts


def group_mounts(group: Cgroup | None) -> list[str]:
    """Mount the sandbox's cgroup where a container has it: its counters tell which limit was hit."""
    mounts = []
    for folder in group.folders if group is not None else []:
        mounts += ["--ro-bind", str(folder), str(folder.parent)]
    return mounts


@cache
def proc_mounts() -> list[str]:
    """Make the kernel's settings under `/proc` read-only, and hide files that only root may read.

    As root on the host, the sandbox's user is the host's root without capabilities, and the kernel permits
    writes to settings by user id alone. bubblewrap covers only some of them.
    """
    mounts = []
    for entry in sorted(Path("/proc").iterdir()):
        if entry.name.isdigit() or entry.is_symlink():
            continue
        mode = entry.stat().st_mode
        if not stat.S_ISDIR(mode) and not mode & 0o044:
            mounts += ["--ro-bind", "/dev/null", str(entry)]
        elif stat.S_ISDIR(mode) or mode & 0o222:
            mounts += ["--ro-bind", str(entry), str(entry)]
    # Only a namespace's root may write these; the program inside does, before it parts from it.
    return [*mounts, "--bind", "/proc/sys/user", "/proc/sys/user"]
