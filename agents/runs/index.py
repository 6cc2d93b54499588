"""SQLite index beside the part files of a trajectory store: selects trajectories without reading every file.

The JSON-lines files are authoritative. Opening the index adds their new lines. The index file may be deleted
at any time and is rebuilt. In a read-only folder the index is built in memory.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Self

from pydantic import TypeAdapter, ValidationError

from ..types import Trajectory

STORED = TypeAdapter(Trajectory)
"""Converts trajectories to JSON lines and back."""
FILE = "index.sqlite"
SCHEMA = 1
WAIT_S = 30.0
"""Seconds to wait for another process's write lock; after that the index is built in memory."""
HEAD_BYTES = 64
"""Leading bytes that identify a part: they hold the id of its first trajectory."""


@dataclass(frozen=True)
class Entry:
    """Index row of one stored trajectory: the columns to select by, and the position of its line."""

    id: str
    task: str
    group: str
    policy: str
    reward: float | None
    stop: str
    tokens: int
    """Number of sampled tokens."""
    seed: int
    file: str
    """File name of the part."""
    offset: int
    """Byte offset of the line in the part."""


_COLUMNS = ", ".join(f'"{column.name}"' for column in fields(Entry))
_VALUES = ", ".join(f":{column.name}" for column in fields(Entry))
# A seed may be larger than SQLite's integers, so it is text there.
_TABLES = f"""
CREATE TABLE parts (name TEXT PRIMARY KEY, head BLOB, size INTEGER, indexed INTEGER, unread INTEGER);
CREATE TABLE entries ({_COLUMNS}, PRIMARY KEY (file, "offset"));
CREATE INDEX by_task ON entries (task);
PRAGMA user_version = {SCHEMA};
"""


class TrajectoryIndex:
    """An open index of the lines stored at the time of opening. Not thread-safe."""

    def __init__(self, folder: Path, place: Path | str) -> None:
        """Use `open`. Raises sqlite3.Error."""
        self._folder = folder
        self._database = sqlite3.connect(place, timeout=WAIT_S, isolation_level=None)
        try:
            if self._stale():
                with self._database:  # commits, or rolls back
                    self._database.execute("BEGIN IMMEDIATE")
                    self._update()
        except BaseException:
            self._database.close()
            raise

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Bring the index of a folder up to date and open it."""
        file = folder / FILE
        if any(folder.glob("*.jsonl")):
            for _ in range(2):
                try:
                    return cls(folder, file)
                except sqlite3.OperationalError:
                    break  # nothing can be written here, or another process is writing for too long
                except sqlite3.DatabaseError:  # no index, or one of another version
                    with suppress(OSError):
                        file.unlink()
        return cls(folder, ":memory:")

    @property
    def unread(self) -> int:
        """Number of unreadable lines: incomplete after a crash, or of another schema version."""
        return int(self._database.execute("SELECT total(unread + (size > indexed)) FROM parts").fetchone()[0])

    def entries(
        self,
        *,
        task: str | None = None,
        policy: str | None = None,
        solved: bool | None = None,
        limit: int | None = None,
    ) -> list[Entry]:
        """List the matching entries in the order of writing; `solved` excludes unscored trajectories."""
        chosen = {"task = ?": task, "policy = ?": policy, "(reward >= 1.0) = ?": solved}
        wanted = {condition: value for condition, value in chosen.items() if value is not None}
        where = " AND ".join(wanted) or "true"
        query = f'SELECT {_COLUMNS} FROM entries WHERE {where} ORDER BY file, "offset" LIMIT ?'
        rows = self._database.execute(query, (*wanted.values(), -1 if limit is None else limit))
        return [replace(entry, seed=int(entry.seed)) for entry in (Entry(*row) for row in rows)]

    def close(self) -> None:
        """Close the database. Safe to call twice."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stale(self) -> bool:
        """Whether the tables are missing or a part differs. Raises sqlite3.DatabaseError for other tables."""
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version not in (0, SCHEMA):
            raise sqlite3.DatabaseError(f"an index of version {version}")
        if version == 0:
            return True
        known = self._database.execute("SELECT name, head, size FROM parts ORDER BY name").fetchall()
        return known != [(part.name, _head(part), part.stat().st_size) for part in self._parts()]

    def _update(self) -> None:
        """Add new lines in one transaction: another process may have added the same lines just before."""
        if self._database.execute("PRAGMA user_version").fetchone() == (0,):
            for statement in _TABLES.split(";"):
                self._database.execute(statement)
        known = {name: rest for name, *rest in self._database.execute("SELECT * FROM parts")}
        parts = {part.name: part for part in self._parts()}
        for name, part in parts.items():
            head, size = _head(part), part.stat().st_size
            before, _, indexed, unread = known.get(name, (b"", 0, 0, 0))
            if size < indexed or not head.startswith(before):
                self._forget(name)
                indexed = unread = 0
            read = _Reading(indexed, unread)
            rows = ({**vars(entry), "seed": str(entry.seed)} for entry in read.entries(part))
            self._database.executemany(f"INSERT INTO entries VALUES ({_VALUES})", rows)
            values = (name, head, max(size, read.indexed), read.indexed, read.unread)
            self._database.execute("INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?, ?)", values)
        for name in known.keys() - parts:
            self._forget(name)

    def _forget(self, name: str) -> None:
        self._database.execute("DELETE FROM entries WHERE file = ?", (name,))
        self._database.execute("DELETE FROM parts WHERE name = ?", (name,))

    def _parts(self) -> list[Path]:
        return sorted(self._folder.glob("*.jsonl"))


@dataclass
class _Reading:
    """Bytes of a part that are indexed, and the number of its unreadable complete lines."""

    indexed: int
    unread: int

    def entries(self, part: Path) -> Iterator[Entry]:
        """Yield the entries of the complete lines after `indexed`."""
        with part.open("rb") as lines:
            lines.seek(self.indexed)
            for line in lines:
                if not line.endswith(b"\n"):
                    return  # torn, or still being written
                offset, self.indexed = self.indexed, self.indexed + len(line)
                try:
                    yield _entry(STORED.validate_json(line), part.name, offset)
                except ValidationError:
                    self.unread += 1


def _entry(trajectory: Trajectory, file: str, offset: int) -> Entry:
    return Entry(
        trajectory.id,
        trajectory.task_id,
        trajectory.group,
        trajectory.policy,
        trajectory.reward,
        trajectory.stop.value,
        sum(len(turn.action.completion.token_ids) for turn in trajectory.turns),
        trajectory.seed,
        file,
        offset,
    )


def _head(part: Path) -> bytes:
    with part.open("rb") as file:
        return file.read(HEAD_BYTES)
