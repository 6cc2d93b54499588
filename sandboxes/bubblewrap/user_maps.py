"""Several users in a user namespace that bubblewrap makes. By itself it maps one.

bubblewrap waits (`--userns-block-fd`) until its parent has written the map, which takes root outside. Inside,
0 is the user that starts the sandbox, there until the program inside has parted from it; commands and the
program get numbers outside that belong to nobody else.
"""

from __future__ import annotations

import os
import re
import select
import time
from functools import cache
from pathlib import Path

NOBODYS_IDS = 1_900_000_000
"""Users of sandboxes are this number and their own outside, where the host has so many."""
CHILD_PID = re.compile(rb'"child-pid":\s*(\d+)')


@cache
def first_outside() -> int | None:
    """What to add to a sandbox's user ids for those outside; None where only one user can be mapped."""
    if os.geteuid() != 0:
        return None
    rows = [Path(f"/proc/self/{kind}_map").read_text().split() for kind in ("uid", "gid")]
    ours = min(int(row[0]) + int(row[2]) if int(row[0]) == 0 else 0 for row in rows)
    if ours > NOBODYS_IDS + 65_536:
        return NOBODYS_IDS
    return 0 if ours >= 65_536 else None


class PendingUserMap:
    """The map of one namespace to come."""

    def __init__(self, users: list[int], groups: list[int]) -> None:
        self._maps = {"uid_map": users, "gid_map": groups}
        self._said, info = os.pipe()
        block, self._release = os.pipe()
        self.theirs = (info, block)
        """Descriptors for bubblewrap to inherit, and for its starter to close then."""
        self.options = ["--info-fd", str(info), "--userns-block-fd", str(block)]

    def abandon(self) -> None:
        """Bubblewrap was not started."""
        os.close(self._said)
        os.close(self._release)

    def write(self, deadline: float) -> None:
        """Write the map and let bubblewrap go on. Raises OSError, TimeoutError at the deadline."""
        try:
            pid = self._child(deadline)
            if pid is None:
                return  # it ended before, and says itself why
            for file, numbers in self._maps.items():
                rows = ["0 0 1", *(f"{number} {(first_outside() or 0) + number} 1" for number in numbers)]
                Path(f"/proc/{pid}/{file}").write_text("\n".join(rows) + "\n")
            os.write(self._release, b".")
        finally:
            os.close(self._said)
            os.close(self._release)

    def _child(self, deadline: float) -> int | None:
        """The process whose namespace it is, as bubblewrap says, piece by piece.

        Heard to the end: bubblewrap would die of a pipe that nobody reads.
        """
        text = b""
        while b"}" not in text:
            if not select.select([self._said], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError
            part = os.read(self._said, 4096)
            if not part:
                return None
            text += part
        found = CHILD_PID.search(text)
        return int(found[1]) if found else None
