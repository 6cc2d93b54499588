"""The tools `view` and `edit`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field

from sandboxes.base import Sandbox

from ..grading.submission import travel_note
from .base import FILE_S, Path, ToolContext, ToolError, path_in_tree, read_text, split_lines, tool, write_text

VIEW_LINES = 200
"""Lines shown when `view` is given no end."""
EDIT_LINES = 8
"""Most lines shown after an edit."""
CRLF = "lines of this file end in CRLF, which edit keeps"
_LINE_END = re.compile(r"\r?\n\Z")
_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # as `read_text` returns such bytes


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
        if any(line.endswith("\r\n") for line in lines[self.start - 1 : last]):
            shown.append(f"({CRLF})")
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
        text = "" if self.create else read_text(at.sandbox, self.path)
        if self.create:
            done = self._make(at.sandbox)
        else:
            old = self.old
            done = self._insert(at.sandbox, text) if old is None else self._replace(at.sandbox, text, old)
        path = path_in_tree(at.task, self.path)
        notes = [travel_note(path, at.taskset, at.task, exists=not self.create)]
        if not self.create and not self.new.isascii() and _NOT_UTF8.search(text):
            notes.append("the file is not UTF-8, and what you wrote is")
        return "\n".join([done, *(f"({note})" for note in notes if note)])

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
            lines[at - 1] += _with_ends("\n", lines[:at])
        added = self.new if self.new.endswith("\n") else self.new + "\n"
        added = _with_ends(added, lines[: max(at, 1)])
        write_text(sandbox, self.path, "".join([*lines[:at], added, *lines[at:]]))
        return f"inserted after line {at} of {self.path}"

    def _replace(self, sandbox: Sandbox, text: str, old: str) -> str:
        if old == "":
            raise ToolError("old is empty; to add text use insert_line")
        if old == self.new:
            raise ToolError("old and new are the same text")
        found = _occurrences(text, old)
        on = [_line_of(text, start) for start, _ in found]
        if self.line is not None:
            found = [place for place, line in zip(found, on, strict=True) if line == self.line]
        if len(found) != 1:
            raise ToolError(self._refusal(text, on, len(found)))
        ((start, end),) = found
        first = _line_of(text, start)
        new = self.new if "\r" in old else _with_ends(self.new, split_lines(text)[:first])
        changed = text[:start] + new + text[end:]
        write_text(sandbox, self.path, changed)
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
    return [f"{number}\t{_LINE_END.sub('', lines[number - 1])}" for number in range(first, last + 1)]


def _occurrences(text: str, part: str) -> list[tuple[int, int]]:
    """Return start and end of every occurrence of `part`, overlaps included: an edit must be unambiguous.

    A newline matches CRLF too, as `view` shows both alike, unless `part` has carriage returns of its own.
    """
    newline = "\n" if "\r" in part else r"(?:\r\n|(?<!\r)\n)"
    pattern = newline.join(map(re.escape, part.split("\n")))
    return [found.span(1) for found in re.finditer(f"(?=({pattern}))", text)]


def _with_ends(new: str, before: list[str]) -> str:
    """Give a new text the line ends of the lines before it, unless it has carriage returns of its own."""
    end = next((line for line in reversed(before) if line.endswith("\n")), "")
    return new.replace("\n", "\r\n") if end.endswith("\r\n") and "\r" not in new else new


def _line_of(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


def _some(numbers: list[int]) -> str:
    shown = ", ".join(str(number) for number in numbers[:8])
    return shown + (", …" if len(numbers) > 8 else "")
