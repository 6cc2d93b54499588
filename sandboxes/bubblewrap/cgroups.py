"""Resource bounds by cgroups, version 1 or 2, where this process may create them.

Groups are created at the top of the hierarchy, which needs root (or a delegated hierarchy mounted there).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from ..backend import Owner

HIERARCHY = Path("/sys/fs/cgroup")
PREFIX = "daythree-"
REMOVE_S = 3.0
CPU_PERIOD_US = 100_000


class Cgroup:
    """A cgroup: a single folder (version 2), or a folder in each controller's hierarchy (version 1)."""

    def __init__(self, folders: list[Path]) -> None:
        self.folders = folders

    @classmethod
    def create(cls, name: str, *, memory_bytes: int, pids: int, cpus: float) -> Cgroup | None:
        """Create a cgroup with these bounds; None where one of them cannot be set."""
        group = cls([])
        try:
            for folder, settings in plan(PREFIX + name, memory_bytes, pids, cpus):
                folder.mkdir()
                group.folders.append(folder)
                for file, value in settings:
                    (folder / file).write_text(value)
                for file in ("memory.memsw.limit_in_bytes", "memory.swap.max"):  # where swap is accounted for
                    if (folder / file).exists():
                        (folder / file).write_text("0" if file == "memory.swap.max" else str(memory_bytes))
        except OSError:
            group.remove()
            return None
        return group

    def entering(self, command: list[str]) -> list[str]:
        """Return a command that enters this cgroup and then runs `command`."""
        enter = (
            'while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs" || exit 1; shift; done; shift; exec "$@"'
        )
        return ["sh", "-c", enter, "sh", *map(str, self.folders), "--", *command]

    def remove(self) -> None:
        """Kill the members and remove the cgroup. What resists is removed by a later `reap_groups`."""
        until = time.monotonic() + REMOVE_S
        for folder in self.folders:
            while folder.exists() and time.monotonic() < until:
                try:
                    folder.rmdir()
                except OSError:
                    kill_members(folder)
                    time.sleep(0.005)


def plan(name: str, memory_bytes: int, pids: int, cpus: float) -> list[tuple[Path, list[tuple[str, str]]]]:
    """Return the folders to make, each with its settings as (file, value)."""
    quota = str(int(cpus * CPU_PERIOD_US))
    if (HIERARCHY / "cgroup.controllers").exists():
        cpu = ("cpu.max", f"{quota} {CPU_PERIOD_US}")
        return [(HIERARCHY / name, [("memory.max", str(memory_bytes)), ("pids.max", str(pids)), cpu])]
    return [
        (HIERARCHY / "memory" / name, [("memory.limit_in_bytes", str(memory_bytes))]),
        (HIERARCHY / "pids" / name, [("pids.max", str(pids))]),
        (HIERARCHY / "cpu" / name, [("cpu.cfs_period_us", str(CPU_PERIOD_US)), ("cpu.cfs_quota_us", quota)]),
    ]


def kill_members(folder: Path) -> None:
    try:
        for pid in (folder / "cgroup.procs").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
    except OSError:
        pass  # gone meanwhile


def reap_groups() -> list[str]:
    """Remove cgroups of dead owners and kill their members; return the names."""
    removed = []
    for name, group in leftovers():
        group.remove()
        removed.append(f"control group {name}")
    return removed


def leftovers() -> Iterator[tuple[str, Cgroup]]:
    """Yield cgroups of dead owners, with their names."""
    found: dict[str, list[Path]] = {}
    for pattern in (f"{PREFIX}*", f"*/{PREFIX}*"):
        for folder in HIERARCHY.glob(pattern):
            found.setdefault(folder.name, []).append(folder)
    for name, folders in found.items():
        try:
            owner = Owner.parse(name.removeprefix(PREFIX).rpartition(".")[0])
        except ValueError:
            continue  # not made by `BubblewrapBackend`
        if owner.gone():
            yield name, Cgroup(folders)
