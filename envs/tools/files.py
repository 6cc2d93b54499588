"""The tools `view` and `edit`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sandboxes.base import Sandbox

from .base import FILE_S, Path, ToolContext, ToolError, read_text, split_lines, tool, write_text

VIEW_LINES = 200
"""Lines shown when `view` is given no end."""


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
        lines = [line.removesuffix("\n") for line in split_lines(text)]
        last = min(self.end or self.start + VIEW_LINES - 1, len(lines))
        if self.start > max(last, 1):
            raise ToolError(f"{self.path} has {len(lines)} lines; nothing from {self.start} to {last}")
        shown = [f"{number}\t{lines[number - 1]}" for number in range(self.start, last + 1)]
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
            return self._make(at.sandbox)
        text = read_text(at.sandbox, self.path)
        if self.old is None:
            return self._insert(at.sandbox, text)
        return self._replace(at.sandbox, text, self.old)

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
            if not starts and not on:
                raise ToolError(f"old does not occur in {self.path}")
            if not starts:
                raise ToolError(f"old does not start on line {self.line}, but on {_some(on)}")
        if not starts:
            raise ToolError(f"old does not occur in {self.path}; view the file and copy the text exactly")
        if len(starts) > 1:
            where = f"line {self.line}" if self.line else f"lines {_some(on)}"
            raise ToolError(f"old occurs {len(starts)} times, on {where}; give more text or a line")
        place = starts[0]
        write_text(sandbox, self.path, text[:place] + self.new + text[place + len(old) :])
        return f"changed line {_line_of(text, place)} of {self.path}"


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
