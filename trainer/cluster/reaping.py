"""Removal of processes and files that outlive their run: owner labels, and the clean-up after a crash.

Every process started for a run carries its owner in the environment, every temporary folder in its name. A
watchdog (this file, run as a script) waits for the end of the owner and removes its leftovers; `reap` does
the same for owners whose watchdog died with them. Standard library only, Linux only.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LABEL = "DAYTHREE_OWNER"
"""Environment variable that names the owner of a process."""

HOST_LABEL = "DAYTHREE_OWNER_HOST"
"""Environment variable that names the machine of the owner, for processes that may be on others."""

SHARED_MEMORY = Path("/dev/shm")
_NAME = re.compile(r"\d+-\d+-\d+")
_FOLDER = re.compile(rf"daythree-({_NAME.pattern})")
_TITLES = ("ray::", "VLLM::")


def owner(number: int) -> str:
    """Name this process and its `number`-th cluster; a later process of the same id has another name."""
    return f"{os.getpid()}-{start_of(os.getpid())}-{number}"


def this_host() -> str:
    """Return a name of this machine, valid until its next boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def is_alive(name: str) -> bool:
    """Whether the process that an owner's name stands for still runs."""
    pid, started, _ = name.split("-")
    return start_of(int(pid)) == int(started)


def folder_name(name: str) -> str:
    """The name that a temporary folder of this owner must carry."""
    return f"daythree-{name}"


def folder_parents() -> list[Path]:
    """Folders that temporary folders are made in, and searched for."""
    return list(dict.fromkeys((SHARED_MEMORY, Path("/tmp"), Path(tempfile.gettempdir()))))


def labelled(name: str | None = None) -> dict[int, str]:
    """List live processes that carry an owner (a given one, or any) as pid to owner."""
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        value = _label_of(entry)
        if value is not None and name in (None, value):
            found[int(entry.name)] = value
    return found


def _label_of(process: Path) -> str | None:
    """Read a process's owner from its environment, or from the folder it has files open in.

    Ray's and vLLM's processes give themselves a title, which overwrites the environment one can see.
    """
    try:
        rows = (process / "environ").read_bytes().split(b"\0")
        parts = [row.decode("utf-8", "replace").partition("=") for row in rows]
        variables = {name: value for name, _, value in parts}
        if variables.get(HOST_LABEL, this_host()) != this_host():
            return None  # a cluster's process: whether its owner lives is not known here
        value = variables.get(LABEL)
        if value is not None or not (process / "comm").read_text().startswith(_TITLES):
            return value
        opened = [str(file.readlink()) for file in (process / "fd").iterdir()]
    except (OSError, UnicodeDecodeError):  # gone meanwhile, or not ours to read
        return None
    folders = (part for path in opened for part in path.split("/"))
    return next((match[1] for part in folders if (match := _FOLDER.fullmatch(part))), None)


def end(name: str, *, timeout_s: float = 10.0) -> list[str]:
    """Kill every process of an owner and remove its folders and shared memory; returns what was removed."""
    removed: list[str] = []
    deadline = time.monotonic() + timeout_s
    segments: set[Path] = set()
    while (pids := labelled(name)) and time.monotonic() < deadline:
        for pid in pids:
            segments |= shared_memory_of(pid)
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
                removed.append(f"process {pid}")
            except OSError:
                continue
        time.sleep(0.05)
    segments |= _remembered(name)
    for path in segments:
        path.unlink(missing_ok=True)
    for parent in folder_parents():
        folder = parent / folder_name(name)
        if folder.is_dir():
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(str(folder))
    return sorted(set(removed))


def reap() -> list[str]:
    """`end` for every owner whose process is gone; returns what was removed."""
    names = set(labelled().values())
    for parent in folder_parents():
        names |= {match[1] for path in parent.glob("daythree-*") if (match := _FOLDER.fullmatch(path.name))}
    dead = [name for name in names if _NAME.fullmatch(name) and not is_alive(name)]
    return [removed for name in dead for removed in end(name)]


def reap_folders(parent: Path) -> None:
    """Remove folders of owners that are gone from a place outside `folder_parents`."""
    for path in parent.glob("daythree-*"):
        if (match := _FOLDER.fullmatch(path.name)) and not is_alive(match[1]):
            shutil.rmtree(path, ignore_errors=True)


def remember_shared_memory() -> set[Path]:
    """Record the shared memory of this process and its descendants for `end`; returns the files.

    The mappings of a process can no longer be read once the process is dead.
    """
    name = os.environ.get(LABEL)
    if name is None:
        return set()
    family = [os.getpid(), *descendants(os.getpid())]
    segments = {segment for pid in family for segment in shared_memory_of(pid)}
    folder = SHARED_MEMORY / folder_name(name)
    folder.mkdir(exist_ok=True, mode=0o700)
    (folder / f".segments-{os.getpid()}").write_text("\n".join(sorted(map(str, segments))), encoding="utf-8")
    return segments


def _remembered(name: str) -> set[Path]:
    files = (SHARED_MEMORY / folder_name(name)).glob(".segments-*")
    return {Path(line) for file in files for line in file.read_text(encoding="utf-8").splitlines() if line}


def descendants(pid: int) -> list[int]:
    """List the children of a process, and theirs."""
    found: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in file.read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *descendants(child)]
    return found


def start_watchdog(name: str) -> subprocess.Popen[bytes]:
    """Start a process that waits for the end of this one and then removes its processes and files.

    The watchdog has its own session, so that Ctrl-C and a killed process group do not reach it.
    """
    environment = {key: value for key, value in os.environ.items() if key != LABEL}
    return subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
        env=environment,
    )


def _wait_for_end(name: str) -> None:
    pid = int(name.split("-", maxsplit=1)[0])
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:  # gone already, or a kernel without pidfd
        while is_alive(name):
            time.sleep(0.5)
        return
    if is_alive(name):
        select.select([descriptor], [], [])
    os.close(descriptor)


def start_of(pid: int) -> int | None:
    """Clock ticks from boot to the start of a process; None when it is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def shared_memory_of(pid: int) -> set[Path]:
    """List the shared-memory files that a process has mapped: their names do not hold an owner."""
    try:
        maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    return {Path(path) for path in re.findall(r"(/dev/shm/[^/\s]+)$", maps, flags=re.MULTILINE)}


if __name__ == "__main__":
    _wait_for_end(sys.argv[1])
    end(sys.argv[1])
