"""Search an image for the fixes of a task set: in every file, archive and git object.

An image with a library's dependencies may hold a later version of the library itself: as a dependency of a
dependency, in a wheel, in a package cache. One pass over an image searches for the fixes of all its tasks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from pathlib import PurePosixPath
from typing import Any

from envs.grading.run import SETUP_S
from envs.tasksets.taskset import TaskSet
from envs.tasksets.trees import Tree, is_text
from envs.types import Task
from sandboxes.backend import Backend
from sandboxes.base import Sandbox, SandboxSpec

SCAN_S = 300.0
"""Deadline for the scan of one image."""
TELLING = 12
"""Fewest characters, without spaces around, of a line that is searched for."""
ALONE = 30
"""Fewest matching characters in a file of another name, because short lines recur by chance."""
_SMALL = 32
"""Equal content of files with fewer bytes proves nothing."""
_SYSTEM = ("/proc", "/sys", "/dev")


@dataclass(frozen=True)
class FixSide:
    """Content that the tree after a fix has and the tree before lacks."""

    files: Mapping[str, str]
    """SHA-256 of a file's content to its path."""
    sizes: Mapping[str, int]
    """SHA-256 of a file's content to its size in bytes."""
    objects: Mapping[str, str]
    """Git's blob id of a file's content to its path."""
    lines: Mapping[str, frozenset[str]]
    """Path to the file's telling lines that no file of the base tree has."""


@dataclass(frozen=True)
class ImageScan:
    """Findings of one pass over an image."""

    leaks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Task id to descriptions of the places that hold the fix."""
    complete: bool = False
    looked: int = 0
    """Number of files, archive members and git objects that were examined."""
    unread: int = 0
    """Number of files that could not be read: without permission (as for a policy), damaged, or too large."""
    seconds: float = 0.0


def scan_taskset(taskset: TaskSet, *, backend: Backend) -> dict[str, ImageScan]:
    """Scan the images of all environments that tasks use; return scans by name. Raises SandboxError."""
    scans = {}
    for name in sorted({task.environment for task in taskset.tasks}):
        tasks = [task for task in taskset.tasks if task.environment == name]
        spec = SandboxSpec(
            image=taskset.runtime(tasks[0]).image.ref,
            workdir=tasks[0].workdir,
            memory_mb=2048,
            lifetime_s=SCAN_S + 2 * SETUP_S,
        )
        sandbox = backend.open(spec, timeout_s=SETUP_S)
        try:
            scans[name] = scan_image(sandbox, {task.id: _side_of(taskset, task) for task in tasks})
        finally:
            sandbox.close()
    return scans


def leaks(sandbox: Sandbox, base: Tree, solved: Tree) -> list[str]:
    """Describe the places of a sandbox's image with content that only `solved` has. Raises SandboxError."""
    return list(scan_image(sandbox, {"": fix_side(base, solved)}).leaks.get("", ()))


def fix_side(base: Tree, solved: Tree) -> FixSide:
    """Return the content that `solved`, hidden tests included, has and `base` lacks."""
    known = {entry.data for entry in base.values()}
    changed = {path: entry for path, entry in solved.items() if entry.data not in known}
    whole = {path: entry for path, entry in changed.items() if len(entry.data) >= _SMALL}
    before = frozenset[str]().union(*(_lines(entry.data) for entry in base.values()))
    added = {
        path: frozenset(filter(_is_telling, _lines(entry.data) - before)) for path, entry in changed.items()
    }
    return FixSide(
        files={entry.sha256: path for path, entry in whole.items()},
        sizes={entry.sha256: len(entry.data) for entry in whole.values()},
        objects={_git_id(entry.data): path for path, entry in whole.items()},
        lines={path: lines for path, lines in added.items() if lines},
    )


def scan_image(sandbox: Sandbox, sides: Mapping[str, FixSide], *, timeout_s: float = SCAN_S) -> ImageScan:
    """Search for fixes (`sides`, by task id) in one pass over all files outside the working directory.

    Raises SandboxError.
    """
    lines = sorted({line for side in sides.values() for group in side.lines.values() for line in group})
    request = {
        "files": {digest: size for side in sides.values() for digest, size in side.sizes.items()},
        "objects": sorted({name for side in sides.values() for name in side.objects}),
        "lines": lines,
        "skip": [*_SYSTEM, sandbox.spec.workdir],
        "limit_s": 0.9 * timeout_s,  # the program stops by itself, in time for its summary
    }
    result = sandbox.exec(
        ["python3", "-I", "-c", resources.files("envs.register.proof").joinpath("scanner.py").read_text()],
        timeout_s=timeout_s,
        stdin=json.dumps(request).encode(),
        report=True,
    )
    rows = [row for row in map(_parse, result.report.split(b"\n")) if row]
    end = next((row for row in rows if "complete" in row), {})
    found = [row for row in rows if "place" in row]
    common = _common(found, lines, str(end.get("library", "")))
    return ImageScan(
        leaks={
            name: places
            for name, side in sides.items()
            if (places := tuple(_places(side, found, lines, common)))
        },
        complete=bool(end.get("complete")),
        looked=int(end.get("looked", 0)),
        unread=int(end.get("unread", 0)),
        seconds=round(float(end.get("seconds", 0.0)), 1),
    )


def _places(
    side: FixSide, found: Iterable[Mapping[str, Any]], lines: list[str], common: frozenset[str]
) -> Iterable[str]:
    """Yield a description of every found place that holds this fix, once per place."""
    named: set[str] = set()
    for row in found:
        place = row["place"]
        path = side.files.get(row.get("file", "")) or side.objects.get(row.get("object", ""))
        if path:
            reason = f"{place} is {path} after the fix"
        else:
            reason = _held(side, place, {lines[number] for number in row.get("lines", ())} - common)
        if reason and place not in named:
            named.add(place)
            yield reason


def _held(side: FixSide, place: str, matched: set[str]) -> str:
    """Describe the added lines that a place holds, or return an empty string for too few lines.

    A file of the same name must hold half of the lines that a fix adds to a file, another file two thirds.
    """
    name = PurePosixPath(place.replace("!", "/")).name
    for path, added in side.lines.items():
        here = added & matched
        same_name = PurePosixPath(path).name == name
        if same_name:
            holds = 2 * len(here) >= len(added)
        else:
            holds = 3 * len(here) >= 2 * len(added) and sum(map(len, here)) >= ALONE
        if holds:
            return f"{place} holds {len(here)} of {len(added)} added lines of {path}"
    return ""


def _common(found: Iterable[Mapping[str, Any]], lines: list[str], library: str) -> frozenset[str]:
    """Return the searched lines that Python's standard library has: such lines belong to no project."""
    inside = tuple(f"{library}/{name}" for name in ("site-packages/", "dist-packages/"))
    return frozenset(
        lines[number]
        for row in found
        if library and row["place"].startswith(f"{library}/") and not row["place"].startswith(inside)
        for number in row.get("lines", ())
    )


def _side_of(taskset: TaskSet, task: Task) -> FixSide:
    solved = {**taskset.solved_tree(task), **taskset.trusted_files(task)}
    return fix_side(taskset.base_tree(task), solved)


@lru_cache(maxsize=8192)
def _lines(data: bytes) -> frozenset[str]:
    if not is_text(data):
        return frozenset()
    return frozenset(line.strip() for line in data.decode("utf-8").split("\n"))


def _is_telling(line: str) -> bool:
    return len(line) >= TELLING and not line.startswith(("import ", "from ")) and any(map(str.isalnum, line))


def _git_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _parse(line: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}
