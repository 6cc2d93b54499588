"""Find the change that last touched each line of the trees that tasks start from, in one walk over all diffs.

The walk goes forwards. Every file is a list with one change index per line; a hunk replaces a slice of the
list. The cost is linear in the length of the diffs, for any number of trees; `git blame` of each file of each
tree would walk back each time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from envs.tasksets.lineage import FileLineage, runs_of

from .mainline import History

Lines = list[int]
"""For every line of a file, the index of the change that last touched the line."""
_HUNK = re.compile(rb"@@ -\d+(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_ESCAPE = re.compile(rb"\\([0-7]{3}|.)")
_LETTERS = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


@dataclass(frozen=True)
class _Step:
    """The effect of one change on one file."""

    old: bytes
    new: bytes
    """The path before and after; equal unless the file was renamed."""
    gone: bool
    made: bool
    opaque: bool
    """Whether git shows no lines of the file, because its content is binary."""
    hunks: tuple[tuple[int, int, int], ...]
    """Per hunk: the first line in the new file (from 0), the lines removed, and the lines added."""


def lineage(history: History, bases: Iterable[str]) -> list[FileLineage]:
    """Return a row for every state of a text file in the trees of `bases`.

    `bases` are ids of commits on the first-parent line. Raises RegisterError.
    """
    index = {change.commit: number for number, change in enumerate(history.changes)}
    wanted = sorted({index[commit] for commit in bases}, reverse=True)
    files: dict[bytes, Lines | None] = {}
    since: dict[bytes, int] = {}
    recorded: dict[bytes, int] = {}
    rows: list[FileLineage] = []
    walk = groupby(history.patches("-U0", "-M", "-l400", "--diff-filter=ADMRT"), key=itemgetter(0))
    for commit, parts in walk if wanted else ():
        number = index[commit]
        while wanted and wanted[-1] < number:
            rows += _rows(history, wanted.pop(), files, since, recorded)
        if not wanted:
            break
        _follow(files, since, [_step(section) for _, section in parts], number)
    for number in reversed(wanted):
        rows += _rows(history, number, files, since, recorded)
    return rows


def _rows(
    history: History,
    number: int,
    files: dict[bytes, Lines | None],
    since: dict[bytes, int],
    recorded: dict[bytes, int],
) -> Iterator[FileLineage]:
    """Make rows for the files after a change, except for states of a file that have a row already."""
    for path, entry in history.tree(history.changes[number].commit).items():
        name = path.encode()
        lines = files.get(name)
        if lines and recorded.get(name) != since[name]:
            recorded[name] = since[name]
            if len(lines) == entry.data.count(b"\n") + (not entry.data.endswith(b"\n")):
                yield FileLineage(path, entry.sha256, since[name], runs_of(lines))


def _follow(
    files: dict[bytes, Lines | None], since: dict[bytes, int], steps: list[_Step], number: int
) -> None:
    """Advance the line history of all files by one change."""
    before = {step.old: files.get(step.old) for step in steps}
    for step in steps:
        if step.gone or step.old != step.new:
            files.pop(step.old, None)
    for step in steps:
        if step.gone:
            continue
        known = [] if step.made else before[step.old]
        files[step.new] = None if step.opaque or known is None else _patched(known, step, number)
        since[step.new] = number


def _patched(known: Lines, step: _Step, number: int) -> Lines:
    lines = list(known)
    for start, went, came in step.hunks:
        lines[start : start + went] = [number] * came
    return lines


def _step(section: bytes) -> _Step:
    """Read one file's part of a diff without context."""
    first = section.find(b"\n@@ ") + 1
    header = section[:first] if first else section
    lines = header.split(b"\n")
    # `diff --git a/PATH b/PATH` has halves of equal length, except for a rename, whose paths have own lines.
    halves = lines[0].removeprefix(b"diff --git ")
    old = new = _path(halves[: len(halves) // 2], b"a/")
    for line in lines[1:]:
        if line.startswith(b"rename from "):
            old = _path(line.removeprefix(b"rename from "))
        elif line.startswith(b"rename to "):
            new = _path(line.removeprefix(b"rename to "))
    return _Step(
        old,
        new,
        gone=b"\ndeleted file mode " in header,
        made=b"\nnew file mode " in header,
        opaque=b"\nBinary files " in header,
        hunks=tuple(_hunks(section[first:].split(b"\n"))) if first else (),
    )


def _hunks(lines: list[bytes]) -> Iterator[tuple[int, int, int]]:
    at = 0
    while at < len(lines):
        found = _HUNK.match(lines[at])
        at += 1
        if found:
            went, start, came = (1 if part is None else int(part) for part in found.groups())
            # For a hunk that only removes lines, git gives the line before the hunk.
            yield (start - 1 if came else start), went, came
            seen = 0
            while seen < went + came:  # content may look like a header, so it is counted
                seen += not lines[at].startswith(b"\\")
                at += 1


def _path(text: bytes, prefix: bytes = b"") -> bytes:
    """Read a path from git's output, where git quotes paths with unusual characters."""
    if text.startswith(b'"') and text.endswith(b'"'):
        text = _ESCAPE.sub(_unescaped, text[1:-1])
    return text.removeprefix(prefix)


def _unescaped(found: re.Match[bytes]) -> bytes:
    code = found[1]
    return bytes([int(code, 8)]) if len(code) == 3 else _LETTERS.get(code, code)
