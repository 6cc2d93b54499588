"""Maps of several users in bubblewrap's user namespace; bubblewrap by itself maps a single user.

bubblewrap waits (`--userns-block-fd`) until its parent has written the map, which needs root outside. Inside,
0 is the user that starts the sandbox, used until the program inside has changed its own. Commands and the
program get outside ids that no other user of the machine has.
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
    """Return the offset from inside ids to outside ids; None where only one user can be mapped."""
    if os.geteuid() != 0:
        return None
    rows = [Path(f"/proc/self/{kind}_map").read_text().split() for kind in ("uid", "gid")]
    ours = min(int(row[0]) + int(row[2]) if int(row[0]) == 0 else 0 for row in rows)
    if ours > NOBODYS_IDS + 65_536:
        return NOBODYS_IDS
    return 0 if ours >= 65_536 else None


class PendingUserMap:
    """The map of a namespace that bubblewrap is about to create."""

    def __init__(self, users: list[int], groups: list[int]) -> None:
        self._maps = {"uid_map": users, "gid_map": groups}
        self._info, info = os.pipe()
        block, self._release = os.pipe()
        self.theirs = (info, block)
        """Descriptors for bubblewrap to inherit, and for its starter to close then."""
        self.options = ["--info-fd", str(info), "--userns-block-fd", str(block)]

    def abandon(self) -> None:
        """Close the pipes: bubblewrap was not started."""
        os.close(self._info)
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
            os.close(self._info)
            os.close(self._release)

    def _child(self, deadline: float) -> int | None:
        """Read the id of the namespace's first process from bubblewrap; None when bubblewrap ended before.

        Reads to the end: bubblewrap would get SIGPIPE from a pipe closed too early.
        """
        text = b""
        while b"}" not in text:
            if not select.select([self._info], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError
            part = os.read(self._info, 4096)
            if not part:
                return None
            text += part
        found = CHILD_PID.search(text)
        return int(found[1]) if found else None
