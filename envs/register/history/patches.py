"""Stream git's diffs, file by file, without holding a whole history in memory.

A line of a diff's content starts with a space, `+`, `-` or a backslash, so no content can be mistaken for the
header of a commit or a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

MARK = b"\x01"
"""First byte of a line that names a commit; the commit id follows."""
_FILE = b"diff --git "
_INDEX = re.compile(rb"^index [0-9a-f]+\.\.[0-9a-f]+(?: \d+)?\n", re.MULTILINE)
_NOT_A_FILE = re.compile(
    rb"^(?:index \S+ |(?:new|deleted) file mode |old mode |new mode )1[26]0000$", re.MULTILINE
)


def sections(lines: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    """Split the output of git into pairs of a commit id and the diff of one file.

    The id is empty where the output names no commit.
    """
    commit, part = "", list[bytes]()
    for line in lines:
        if line.startswith(MARK):
            if part:
                yield commit, b"".join(part)
            commit, part = line[1:].strip().decode(), []
        elif line.startswith(_FILE):
            if part:
                yield commit, b"".join(part)
            part = [line]
        elif part:
            part.append(line)
    if part:
        yield commit, b"".join(part)


def text_section(section: bytes) -> str | None:
    """Return one file's diff as text, without object ids.

    Return None for a binary file, a symbolic link, a submodule, and text that is not UTF-8.
    """
    at = section.find(b"\n@@ ") + 1
    header, hunks = (section[:at], section[at:]) if at else (section, b"")
    if b"\nBinary files " in header or _NOT_A_FILE.search(header) or b"\0" in hunks:
        return None
    try:
        return (_INDEX.sub(b"", header) + hunks).decode()
    except UnicodeDecodeError:
        return None
