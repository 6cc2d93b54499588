"""Export a task set in other systems' formats: SWE-bench rows, Harbor task directories."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from envs.tasksets.taskset import TaskSet, TaskSetError, load_taskset
from envs.tasksets.trees import PatchError
from envs.types import Task
from sandboxes.progress import Progress, silent

from ..errors import RegisterError, check_place, one_line
from .entry import RowError
from .harbor.writing import directory_name, write_harbor_task
from .reading import FORMATS, known_format
from .swebench import write_swebench_row


@dataclass(frozen=True)
class NotWritten:
    """A task that the format cannot represent, and the reason."""

    id: str
    reason: str


@dataclass(frozen=True)
class ExportReport:
    """Result of `export_tasks`."""

    out: Path
    format: str
    tasks: int
    not_written: tuple[NotWritten, ...]


def export_tasks(folder: Path, format_name: str, out: Path, *, progress: Progress = silent) -> ExportReport:
    """Write a task set as a file of rows, or as a folder of Harbor tasks.

    A task that the format cannot represent is left out and named in the report. Raises RegisterError of one
    line when no task can be written, in which case `out` does not exist.
    """
    if not known_format(format_name).written:
        choice = ", ".join(name for name, known in FORMATS.items() if known.written)
        raise RegisterError(f"{format_name} is only read; choose one of {choice}")
    check_place(out)
    with one_line():
        taskset = load_taskset(folder)
        with _beside(out) as place:
            write = _rows if format_name == "swebench" else _directories
            left_out = list(write(taskset, place, progress))
            written = len(taskset.tasks) - len(left_out)
            if not written:
                reason = left_out[0].reason if left_out else "it has no tasks"
                raise RegisterError(f"no task of {taskset.name} can be written: {reason}")
    return ExportReport(out, format_name, written, tuple(left_out))


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """Yield a temporary path that is renamed to `out` on success, so that no partial export remains."""
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        yield scratch / "out"
        os.rename(scratch / "out", out)  # noqa: PTH104 (refuses a folder that appeared meanwhile)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _rows(taskset: TaskSet, place: Path, progress: Progress) -> Iterator[NotWritten]:
    rows = {record["id"]: record["row"] for record in taskset.records("rows")}
    with place.open("w", encoding="utf-8") as file:

        def write(task: Task) -> None:
            row = write_swebench_row(taskset, task, rows.get(task.id, {}))
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

        yield from _write_tasks(taskset, write, progress)


def _directories(taskset: TaskSet, place: Path, progress: Progress) -> Iterator[NotWritten]:
    place.mkdir()
    taken: set[str] = set()

    def write(task: Task) -> None:
        name = directory_name(task)
        if name in taken:
            raise RowError(f"id: two tasks would be called {name}")
        taken.add(name)
        try:
            write_harbor_task(taskset, task, place / name)
        except BaseException:
            shutil.rmtree(place / name, ignore_errors=True)
            raise

    yield from _write_tasks(taskset, write, progress)


def _write_tasks(taskset: TaskSet, write: Callable[[Task], None], progress: Progress) -> Iterator[NotWritten]:
    what = f"writing {taskset.name}"
    for number, task in enumerate(taskset.tasks, start=1):
        try:
            write(task)
        except (RowError, PatchError, TaskSetError) as error:
            yield NotWritten(task.id, str(error))
        progress(what, number, len(taskset.tasks))
