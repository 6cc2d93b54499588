"""Trajectory store: append-only JSON lines in part files.

Every store that writes starts a part of its own, so a line truncated by a crash is always the last of its
part. Readers skip that line and keep the lines before it.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from ..types import Trajectory
from .index import STORED, Entry, TrajectoryIndex

_log = logging.getLogger(__name__)


class StoreError(Exception):
    """Stored trajectories cannot be read. Takes one sentence."""


class TrajectoryStore:
    """A folder of trajectories. Appending is safe from many threads."""

    def __init__(self, folder: Path, *, part_bytes: int = 64 * 1024 * 1024) -> None:
        """Open the store; its folder is created by the first append."""
        self.folder = folder
        self._part_bytes = part_bytes
        self._lock = threading.Lock()
        self._part: int | None = None  # file descriptor of this store's own part
        self._written = 0

    def append(self, trajectory: Trajectory) -> None:
        """Write one trajectory without buffering, so that the line survives a crash of this process."""
        line = STORED.dump_json(trajectory) + b"\n"
        with self._lock:
            if self._part is None or self._written >= self._part_bytes:
                self._begin_part()
            assert self._part is not None
            left = memoryview(line)
            while left:
                left = left[os.write(self._part, left) :]
            self._written += len(line)

    def read(self, unread: list[str] | None = None) -> Iterator[Trajectory]:
        """Yield every complete trajectory, part by part in the order of writing.

        A complete line that cannot be read hides no other: a sentence with its file and line is logged, and
        added to `unread`.
        """
        for part in sorted(self.folder.glob("*.jsonl")):
            with part.open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    if not line.endswith(b"\n"):
                        break  # torn by a sudden end
                    try:
                        trajectory = _parsed(line, f"{part}:{number}")
                    except StoreError as error:
                        _log.warning("%s", error)
                        if unread is not None:
                            unread.append(str(error))
                        continue
                    yield trajectory

    def index(self) -> TrajectoryIndex:
        """Open the index of the trajectories stored so far; the caller closes the index."""
        return TrajectoryIndex.open(self.folder)

    def select(
        self,
        *,
        task: str | None = None,
        policy: str | None = None,
        solved: bool | None = None,
        limit: int | None = None,
    ) -> Iterator[Trajectory]:
        """Yield the matching trajectories in the order of writing, reading only their lines.

        `solved` excludes unscored trajectories; `limit` bounds the number. Raises `StoreError` when a part
        changed after indexing.
        """
        with self.index() as index:
            entries = index.entries(task=task, policy=policy, solved=solved, limit=limit)
        yield from self.read_entries(entries)

    def read_entries(self, entries: Iterable[Entry]) -> Iterator[Trajectory]:
        """Yield the trajectories of index entries. Raises `StoreError` like `select`."""
        for name, group in groupby(entries, lambda entry: entry.file):
            with (self.folder / name).open("rb") as lines:
                for entry in group:
                    lines.seek(entry.offset)
                    where = f"{lines.name}, byte {entry.offset},"
                    trajectory = _parsed(lines.readline(), where)
                    if trajectory.id != entry.id:
                        raise StoreError(
                            f"{where} is not the trajectory {entry.id}: remove the index beside it"
                        )
                    yield trajectory

    def close(self) -> None:
        """Close this store's part. Safe to call twice."""
        with self._lock:
            if self._part is not None:
                os.close(self._part)
            self._part = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin_part(self) -> None:
        if self._part is not None:
            os.close(self._part)
        self.folder.mkdir(parents=True, exist_ok=True)
        number = 1 + max((int(part.stem[5:]) for part in self.folder.glob("part-*.jsonl")), default=0)
        while True:
            path = self.folder / f"part-{number:06d}.jsonl"
            try:  # exclusive: another process may begin the same number
                self._part = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
            except FileExistsError:
                number += 1
            else:
                self._written = 0
                return


def _parsed(line: bytes, where: str) -> Trajectory:
    try:
        return STORED.validate_json(line)
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"]
        raise StoreError(f"{where} is not a trajectory this version can read: {reason}") from error
