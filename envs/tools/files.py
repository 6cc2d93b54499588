"""The tools `view` and `edit`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sandboxes.base import Sandbox

from .. import protection
from .base import FILE_S, Path, ToolContext, ToolError, path_in_tree, read_text, split_lines, tool, write_text

VIEW_LINES = 200
"""Lines shown when `view` is given no end."""
EDIT_LINES = 8
"""Most lines shown after an edit."""


@tool
class View:
    """Show a file with line numbers, or list a folder."""

    path: Path
    start: Annotated[int, Field(ge=1, description="First line to show.")] = 1
    end: Annotated[int | None, Field(ge=1, description="Last line to show.")] = None

    def run(self, at: ToolContext) -> str:
        try:
            text = read_text(at.sandbox, self.path)
        except IsADirectoryError:
            return "\n".join(at.sandbox.listdir(self.path, timeout_s=FILE_S)) or "(empty folder)"
        lines = split_lines(text)
        last = min(self.end or self.start + VIEW_LINES - 1, len(lines))
        if self.start > max(last, 1):
            raise ToolError(f"{self.path} has {len(lines)} lines; nothing from {self.start} to {last}")
        shown = _numbered(lines, self.start, last)
        if self.end is None and last < len(lines):
            shown.append(f"({len(lines) - last} more lines; view with start={last + 1})")
        return "\n".join(shown) or "(empty file)"


@tool
class Edit:
    """Change a file. Replace `old` by `new`: `old` must occur exactly once in the file, or, with `line`,
    exactly once on that line. Or insert `new` after line `insert_line` (0: at the top). Or make a new file
    that holds `new`, with `create`."""

    path: Path
    new: Annotated[str, Field(description="The text to put there.")]
    old: Annotated[str | None, Field(description="The text to replace.")] = None
    line: Annotated[int | None, Field(ge=1, description="The line on which `old` starts.")] = None
    insert_line: Annotated[int | None, Field(ge=0, description="Insert after this line.")] = None
    create: Annotated[bool, Field(description="Make a new file.")] = False

    def run(self, at: ToolContext) -> str:
        asked = [self.old is not None, self.insert_line is not None, self.create]
        if sum(asked) != 1:
            raise ToolError("give exactly one of old, insert_line and create")
        if self.create:
            done = self._make(at.sandbox)
        else:
            text = read_text(at.sandbox, self.path)
            old = self.old
            done = self._insert(at.sandbox, text) if old is None else self._replace(at.sandbox, text, old)
        note = protection.note(path_in_tree(at.task, self.path), not self.create, at.task.judges)
        return f"{done}\n({note})" if note else done

    def _make(self, sandbox: Sandbox) -> str:
        try:
            sandbox.read(self.path, timeout_s=FILE_S, limit=1)
        except FileNotFoundError:
            write_text(sandbox, self.path, self.new)
            return f"made {self.path}"
        raise ToolError(f"{self.path} exists; replace text in it with old and new")

    def _insert(self, sandbox: Sandbox, text: str) -> str:
        lines = split_lines(text)
        at = self.insert_line or 0
        if at > len(lines):
            raise ToolError(f"{self.path} has only {len(lines)} lines")
        if at and not lines[at - 1].endswith("\n"):
            lines[at - 1] += "\n"
        added = self.new if self.new.endswith("\n") else self.new + "\n"
        write_text(sandbox, self.path, "".join([*lines[:at], added, *lines[at:]]))
        return f"inserted after line {at} of {self.path}"

    def _replace(self, sandbox: Sandbox, text: str, old: str) -> str:
        if old == "":
            raise ToolError("old is empty; to add text use insert_line")
        if old == self.new:
            raise ToolError("old and new are the same text")
        starts = _occurrences(text, old)
        on = [_line_of(text, start) for start in starts]
        if self.line is not None:
            starts = [start for start, line in zip(starts, on, strict=True) if line == self.line]
        if len(starts) != 1:
            raise ToolError(self._refusal(text, on, len(starts)))
        changed = text[: starts[0]] + self.new + text[starts[0] + len(old) :]
        write_text(sandbox, self.path, changed)
        first = _line_of(text, starts[0])
        last = min(first + self.new.count("\n"), len(split_lines(changed)))
        shown = _numbered(split_lines(changed), first, min(last, first + EDIT_LINES - 1))
        more = last - first - EDIT_LINES + 1
        return "\n".join([f"changed {self.path}", *shown, *([f"({more} more lines)"] if more > 0 else [])])

    def _refusal(self, text: str, on: list[int], here: int) -> str:
        """Say why `old` is not replaced, which starts on the lines `on`, and `here` times on its line."""
        if self.line is None:
            if here:
                return f"old occurs {here} times, on lines {_some(on)}; give more text or a line"
            return f"old does not occur in {self.path}; view the file and copy the text exactly"
        lines = split_lines(text)
        if self.line > len(lines):
            return f"{self.path} has only {len(lines)} lines"
        elsewhere = f"but on {_some(on)}" if on else "nor anywhere else in the file"
        reason = f"occurs {here} times; give more text" if here else f"does not start there, {elsewhere}"
        return "\n".join(
            [f"line {self.line} was not changed: old {reason}", *_numbered(lines, self.line, self.line)]
        )


def _numbered(lines: list[str], first: int, last: int) -> list[str]:
    """Return the lines `first` to `last` with their numbers, without their ends."""
    return [f"{number}\t{lines[number - 1].removesuffix(chr(10))}" for number in range(first, last + 1)]


def _occurrences(text: str, part: str) -> list[int]:
    """Return the start of every occurrence of `part`, overlaps included: an edit must be unambiguous."""
    found, start = [], text.find(part)
    while start >= 0:
        found.append(start)
        start = text.find(part, start + 1)
    return found


def _line_of(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


def _some(numbers: list[int]) -> str:
    shown = ", ".join(str(number) for number in numbers[:8])
    return shown + (", …" if len(numbers) > 8 else "")
