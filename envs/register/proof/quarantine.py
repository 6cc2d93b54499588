"""Remove tasks from a task set: every removed task moves to `quarantine.jsonl` with a reason."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from envs.tasksets.taskset import TaskSet, TaskSetError, load_taskset

TASKS, QUARANTINE, LOCK = "tasks.jsonl", "quarantine.jsonl", "lock.json"


def quarantine(folder: Path, reasons: Mapping[str, str]) -> TaskSet:
    """Move tasks to the quarantine and return the remaining set. `reasons` maps task ids to reasons.

    Whole rows and trees of the tasks are kept. The set is rewritten in a copy that replaces the folder at the
    end. Raises TaskSetError when a task is not in the set, or the set cannot be written.
    """
    taskset = load_taskset(folder)
    for name in reasons:
        taskset.task(name)
    if reasons:
        with _rewriting(folder) as beside:
            rows = [json.loads(line) for line in (beside / TASKS).read_bytes().split(b"\n") if line.strip()]
            out = [row for row in rows if row["id"] in reasons]
            away = [{"id": row["id"], "reason": reasons[row["id"]], "task": row} for row in out]
            _write(beside / TASKS, [row for row in rows if row["id"] not in reasons])
            _write(beside / QUARANTINE, [*taskset.records("quarantine"), *away])
            _relock(beside, away=reasons.keys())
    return load_taskset(folder)


def add_evidence(folder: Path, evidence: Mapping[str, Any]) -> None:
    """Merge entries into the evidence in a set's `lock.json`. Raises TaskSetError."""
    with _rewriting(folder) as beside:
        _relock(beside, evidence=evidence)


@contextmanager
def _rewriting(folder: Path) -> Iterator[Path]:
    """Yield a copy of a set to change; the copy then replaces the set. Raises TaskSetError."""
    try:
        above = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.absolute().parent))
        try:
            beside, old = above / "new", above / "old"
            shutil.copytree(folder, beside)
            yield beside
            os.rename(folder, old)  # noqa: PTH104 (refuses what a path would replace)
            try:
                os.rename(beside, folder)  # noqa: PTH104
            except OSError:
                os.rename(old, folder)  # noqa: PTH104
                raise
        finally:
            shutil.rmtree(above, ignore_errors=True)
    except OSError as error:
        raise TaskSetError(f"{folder} cannot be rewritten: {error.strerror or error}") from error


def _relock(folder: Path, *, away: Collection[str] = (), evidence: Mapping[str, Any] | None = None) -> None:
    """Update `lock.json` after a rewrite; digests of files that were not rewritten stay as recorded."""
    lock = json.loads((folder / LOCK).read_bytes())
    if away:
        for name in (TASKS, QUARANTINE):
            lock["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        lock["tasks"] = {name: digest for name, digest in lock["tasks"].items() if name not in away}
    lock["evidence"] |= evidence or {}
    (folder / LOCK).write_text(json.dumps(lock, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_bytes(b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows))
