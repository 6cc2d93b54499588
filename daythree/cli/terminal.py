"""Terminal output of the command: progress on standard error, results on standard output."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from envs.types import Task
from sandboxes.progress import Progress

LINE_EVERY_S = 15.0
"""Seconds between two progress lines when standard error is not a terminal."""


@contextmanager
def progress() -> Iterator[Progress]:
    """Yield a `Progress` callable: bars on a terminal, lines elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=console) as bars:
        yield _Shown(bars)


class _Shown:
    """One bar per phase of the work, made at the phase's first report."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._known: dict[str, Any] = {}
        self._lock = threading.Lock()

    def __call__(self, what: str, done: int, total: int) -> None:
        with self._lock:
            if what not in self._known:
                self._known[what] = self._bars.add_task(escape(what), total=None)
            self._bars.update(self._known[what], completed=done, total=total or None)


class _Lines:
    """A line at the start of a phase, at intervals during the phase, and at its end."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        self._lock = threading.Lock()

    def __call__(self, what: str, done: int, total: int) -> None:
        with self._lock:
            now, finished = time.monotonic(), 0 < total <= done
            if what in self._last and not finished and now - self._last[what] < LINE_EVERY_S:
                return
            self._last[what] = now
            sys.stderr.write(f"{what}: {done}" + (f" of {total}\n" if total else "\n"))
            sys.stderr.flush()


def print_json(value: Any) -> None:
    """Print one JSON value for programs."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns; cells are never parsed as markup."""
    table = Table(box=None, pad_edge=False, header_style="dim", show_header=any(header))
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def print_checks(checks: Sequence[Mapping[str, Any]]) -> None:
    """Print the doctor's checks: a sign, a name, a detail, and the remedy on the next line."""
    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    for check in checks:
        detail = Text(check["detail"])
        if check["hint"]:
            detail.append(f"\n→ {check['hint']}", style="dim")
        sign = Text("✓", "green") if check["ok"] else Text("✗", "red") if check["hint"] else Text("·")
        table.add_row(sign, Text(check["name"]), detail)
    Console().print(table)


def print_task(task: Task) -> None:
    """Print a task: the instruction, the tests that decide, and the reference patch."""
    kind = task.traits.get("kind", "")
    text = [f"{task.id}  {task.split}  {kind}", "", task.instruction, "", "must pass"]
    text += [f"  {name}{'  (hidden)' if name in task.hidden_tests else ''}" for name in task.fail_to_pass]
    text += ["", f"must stay: {len(task.pass_to_pass)} tests", "", "the answer", "", task.reference_patch]
    sys.stdout.write("\n".join(text).rstrip() + "\n")


def print_result(result: Mapping[str, Any], as_json: bool) -> None:
    """Print a result: as JSON, or its single values and its counts in two columns."""
    if as_json:
        print_json(result)
        return
    rows = [[key.replace("_", " "), _short(value)] for key, value in result.items() if _is_single(value)]
    print_table(["", ""], rows)


def _is_single(value: Any) -> bool:
    return _are_counts(value) or (value is not None and not isinstance(value, Mapping | list | tuple))


def _are_counts(value: Any) -> bool:
    return (
        isinstance(value, Mapping) and bool(value) and all(isinstance(part, int) for part in value.values())
    )


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {count}" for name, count in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
