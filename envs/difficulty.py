"""How often a policy solved each task: measured after registration, kept beside the task set.

    DIR/difficulty.jsonl    {"task": id, "policy": name, "pass_rate": 0 to 1, "episodes": scored ones}

It is no part of the set's digest: the tasks stay what they were, and more becomes known about them.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .tasksets.taskset import TaskSet, TaskSetError, load_taskset

RECORD = "difficulty"


@dataclass(frozen=True)
class PassRate:
    """What one policy made of one task."""

    task: str
    policy: str
    pass_rate: float
    episodes: int = 0
    """Scored episodes behind it; 0 where that was not told."""


def pass_rates(taskset: TaskSet, policy: str = "") -> dict[str, float]:
    """Task id to the pass rate of a policy, or of the one recorded last; tasks without one are left out."""
    rows = [PassRate(**row) for row in taskset.records(RECORD)]
    return {row.task: row.pass_rate for row in rows if policy in ("", row.policy)}


def record_pass_rates(folder: Path, results: Mapping[str, Any], *, policy: str = "") -> tuple[PassRate, ...]:
    """Write down pass rates: task id to rate, or what the `summary.json` of an evaluation holds.

    What the same policy had on these tasks before is replaced; tasks without a scored episode get nothing.
    Raises TaskSetError.
    """
    taskset = load_taskset(folder)
    rows = _rows(results, policy)
    for row in rows:
        if row.task not in taskset.by_id:
            raise TaskSetError(f"{folder} has no task {row.task!r}; the results are of another task set")
        if not 0 <= row.pass_rate <= 1:
            raise TaskSetError(f"a pass rate lies between 0 and 1, that of {row.task} is {row.pass_rate}")
    new = {(row.task, row.policy) for row in rows}
    kept = [row for row in taskset.records(RECORD) if (row["task"], row["policy"]) not in new]
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in [*kept, *map(asdict, rows)]]
    _replace(folder / f"{RECORD}.jsonl", "".join(lines).encode())
    return rows


def _rows(results: Mapping[str, Any], policy: str) -> tuple[PassRate, ...]:
    by_task = results.get("by_task")
    if isinstance(by_task, Mapping):
        name = policy or str(results.get("policy", ""))
        return tuple(
            PassRate(task, name, float(each["pass_rate"]), int(each["scored"]))
            for task, each in by_task.items()
            if each["pass_rate"] is not None
        )
    return tuple(PassRate(task, policy, float(rate)) for task, rate in results.items())


def _replace(path: Path, data: bytes) -> None:
    try:
        handle, beside = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(beside).chmod(0o644)
        Path(beside).replace(path)
    except OSError as error:
        raise TaskSetError(f"{path} cannot be written: {error.strerror or error}") from error
