"""The change that last touched each line of a file: the record `lineage` of a task set.

A row describes one file as of some task's base; bases with the same file share the row. Lines that the policy
changed are mapped away, so that a caller may name a line of the current file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache

from pydantic import TypeAdapter, ValidationError

from .taskset import TaskSet, TaskSetError
from .trees import TreeFile

RECORD = "lineage"
_PATIENCE = 4_000_000
"""Pairs of lines up to which two versions of a file are compared without shortcuts."""


@dataclass(frozen=True)
class FileLineage:
    """One file's lines with the change that last touched each, run-length encoded."""

    path: str
    sha256: str
    """SHA-256 of the file's content."""
    since: int
    """The change that produced this content: an index into `prs.jsonl`."""
    runs: tuple[tuple[int, int], ...]
    """(change, number of lines), from top to bottom: `((4, 10), (17, 2))`."""

    def change_of(self, line: int) -> int | None:
        """Return the change that last touched a line, counted from 1; None beyond the file's end."""
        for change, length in self.runs:
            line -= length
            if line <= 0:
                return change
        return None


def runs_of(changes: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Run-length encode one change per line."""
    runs: list[tuple[int, int]] = []
    for change in changes:
        if runs and runs[-1][0] == change:
            runs[-1] = (change, runs[-1][1] + 1)
        else:
            runs.append((change, 1))
    return tuple(runs)


def lineage_of(taskset: TaskSet, path: str, file: TreeFile, past: int) -> FileLineage | None:
    """Return the newest row of a file before a base with `past` earlier changes. Raises TaskSetError."""
    rows = _known(taskset).get((path, file.sha256), ())
    return max((row for row in rows if row.since < past), key=lambda row: row.since, default=None)


@lru_cache(maxsize=8)
def _known(taskset: TaskSet) -> dict[tuple[str, str], list[FileLineage]]:
    try:
        rows = TypeAdapter(list[FileLineage]).validate_python(taskset.records(RECORD))
    except (ValidationError, ValueError) as error:
        raise TaskSetError(f"{taskset.folder}/{RECORD}.jsonl cannot be read; register it again") from error
    known: dict[tuple[str, str], list[FileLineage]] = {}
    for row in rows:
        known.setdefault((row.path, row.sha256), []).append(row)
    return known


def earlier_line(before: Sequence[str], now: Sequence[str], line: int) -> int | None:
    """Map a line of the current version to the earlier version, both from 1; None for a new line."""
    if before == now:
        return line
    head = 0
    while head < min(len(before), len(now)) and before[head] == now[head]:
        head += 1
    tail = 0
    while tail < min(len(before), len(now)) - head and before[-1 - tail] == now[-1 - tail]:
        tail += 1
    if line <= head:
        return line
    if line > len(now) - tail:
        return line + len(before) - len(now)
    old, new = before[head : len(before) - tail], now[head : len(now) - tail]
    matcher = SequenceMatcher(None, old, new, autojunk=len(old) * len(new) > _PATIENCE)
    for block in matcher.get_matching_blocks():
        offset = line - 1 - head - block.b
        if 0 <= offset < block.size:
            return head + block.a + offset + 1
    return None
