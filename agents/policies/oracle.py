"""A unified diff as the tool calls that make the same change.

Each run of changed lines becomes one `edit`. The calls depend on their order: line numbers count in the file
as the earlier calls leave it. Deletions, which `edit` cannot express, use `shell`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

from envs.types import ToolCall

from ..types import PolicyError

_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_NO_NEWLINE = "\\ No newline at end of file"


@dataclass
class _Run:
    """Neighbouring lines that are removed and added, with their line ends."""

    line: int
    """First line of the run, from 1, in the file as the earlier calls leave it."""
    old: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)


@dataclass
class _FileChange:
    before: str | None
    """None: the file is new."""
    after: str | None
    """None: the file is deleted."""
    runs: list[_Run] = field(default_factory=list)


def patch_calls(patch: str) -> tuple[ToolCall, ...]:
    """Turn a unified diff into tool calls. Raises PolicyError for binary changes and renames."""
    return tuple(call for change in _changes(patch) for call in _file_calls(change))


def _file_calls(change: _FileChange) -> Iterator[ToolCall]:
    if change.after is None:
        yield ToolCall("", "shell", {"command": f"rm -- {shlex.quote(change.before or '')}"})
    elif change.before is None:
        text = "".join(line for run in change.runs for line in run.new)
        yield ToolCall("", "edit", {"path": change.after, "new": text, "create": True})
    elif change.before != change.after:
        raise PolicyError(f"the reference patch renames {change.before}, which no tool can do")
    else:
        for run in change.runs:
            yield ToolCall("", "edit", {"path": change.after, **_edit_arguments(run)})


def _edit_arguments(run: _Run) -> dict[str, str | int]:
    old, new = "".join(run.old), "".join(run.new)
    if not old:
        return {"insert_line": run.line - 1, "new": new}
    if old != "\n" and old.endswith("\n") and new.endswith("\n"):
        old, new = old[:-1], new[:-1]  # whole lines read better without their last line end
    # The line makes the occurrence unique whatever else the file holds.
    return {"old": old, "new": new, "line": run.line}


def _changes(patch: str) -> Iterator[_FileChange]:
    """Parse the files of a diff. Lines are split at newlines only; other line ends belong to their line."""
    lines = patch.split("\n")
    position = 0
    while position < len(lines):
        line = lines[position]
        if line.startswith(("GIT binary patch", "Binary files ", "rename from ", "old mode ")):
            raise PolicyError(f"the reference patch holds a change that no tool can make: {line}")
        if not line.startswith("--- ") or not "".join(lines[position + 1 : position + 2]).startswith("+++ "):
            position += 1
            continue
        change = _FileChange(_path(line), _path(lines[position + 1]))
        position += 2
        while position < len(lines) and (hunk := _HUNK.match(lines[position])):
            position = _read_hunk(lines, position + 1, hunk, change.runs)
        yield change


def _read_hunk(lines: list[str], position: int, hunk: re.Match[str], runs: list[_Run]) -> int:
    """Append a hunk's runs; return the position after it."""
    old_left, new_left = (int(hunk.group(group) or 1) for group in (1, 3))
    # A hunk without new lines names the line before it.
    number = int(hunk.group(2)) + (0 if new_left else 1)
    run: _Run | None = None
    while old_left or new_left or lines[position : position + 1] == [_NO_NEWLINE]:
        line = lines[position]
        position += 1
        kind, text = line[:1] or " ", line[1:] + "\n"
        if line == _NO_NEWLINE:
            _drop_newline(run, lines[position - 2][:1])
            continue
        if kind == " ":
            run, old_left, new_left, number = None, old_left - 1, new_left - 1, number + 1
            continue
        if run is None:
            run = _Run(number)
            runs.append(run)
        if kind == "-":
            run.old.append(text)
            old_left -= 1
        else:
            run.new.append(text)
            new_left -= 1
            number += 1
    return position


def _drop_newline(run: _Run | None, kind: str) -> None:
    if run is not None:
        side = run.old if kind == "-" else run.new
        side[-1] = side[-1].removesuffix("\n")


def _path(line: str) -> str | None:
    """The file a header names, without `a/` or `b/` and a time stamp; None for /dev/null."""
    path = line[4:].partition("\t")[0]
    if path == "/dev/null":
        return None
    if path.startswith('"'):
        quoted = path.strip('"').encode("latin-1", "backslashreplace")
        path = quoted.decode("unicode_escape").encode("latin-1").decode("utf-8", "replace")
    return path[2:] if path.startswith(("a/", "b/")) else path
