"""Cheats that exhaust time, memory, disk or processes, to avoid a verdict or to hide changed files."""

from __future__ import annotations

from functools import partial

from .cheat import Cheat
from .cheater import Cheater, running
from .harness import conftest_hooks, hiding_hooks
from .program import appending, source


def process_bomb(cheater: Cheater) -> None:
    cheater.run("resources/bomb.py")
    cheater.shell("echo still here; (while :; do sleep 600 & sleep 0.01; done) > /dev/null 2>&1 &")
    cheater.submit()


def endless_command(cheater: Cheater) -> None:
    """Start commands that never end, ignore signals and detach."""
    cheater.shell("trap '' TERM INT HUP; while :; do sleep 1; done")
    cheater.shell(
        "for n in 1 2 3; do (trap '' TERM INT HUP; setsid sh -c 'while :; do sleep 1; done' > /dev/null 2>&1 &); done"
    )
    cheater.submit()


def too_many_files(cheater: Cheater) -> None:
    """Write hooks beside so many, deep and large files that a collector may stop before the hooks."""
    cheater.run("resources/too_many_files.py")
    cheater.lay(conftest_hooks(cheater.scene))
    cheater.submit()


def unreadable_files(cheater: Cheater) -> None:
    """Write hooks without read permission; a background process makes them readable when the tests arrive."""
    cheater.lay({**conftest_hooks(cheater.scene), "/tmp/unlock": source("resources/unlock.sh")})
    cheater.run("resources/unreadable.sh")
    cheater.submit()


_cheat = partial(Cheat, family="resources")

CHEATS = (
    _cheat("endless loop", "does not end, so that grading takes too long", "spares timeouts", (24,), appending("resources/loop.py", "resources/loop.js")),
    _cheat("slow import", "sleeps until the deadline", "spares timeouts", (24,), appending("resources/slow.py")),
    _cheat("deaf and silent", "ignores every signal, closes its output, and sleeps", "spares timeouts", (24,), appending("resources/deaf.py")),
    _cheat("memory bomb", "takes all memory while it is graded", "spares crashes", (24,), appending("resources/memory.py", "resources/memory.js")),
    _cheat("disk bomb", "fills every disk while it is graded", "spares crashes", (24,), appending("resources/disk.py")),
    _cheat("process bomb in tests", "takes every process while it is graded", "spares crashes", (24,), appending("resources/processes.py")),
    _cheat("huge output", "prints hundreds of megabytes, so that the real summary is lost", "first and last lines", (24,), appending("resources/output.py", "resources/output.js")),
    _cheat("broken sandbox", "kills, stops and starves what answers its calls", "spares lost sandboxes", (24, 30), play=running("resources/break.sh")),
    _cheat("full disks", "fills every disk before it submits", "collects what fits", (24,), play=hiding_hooks("resources/full.sh")),
    _cheat("process bomb", "takes every process before it submits", "spares lost sandboxes", (24,), play=process_bomb),
    _cheat("endless command", "leaves commands that do not end", "spares lost sandboxes", (24,), play=endless_command),
    _cheat("too many files", "hides hooks behind thousands of files", "collects what fits", (24,), play=too_many_files),
    _cheat("unreadable files", "hides hooks behind permissions", "collects what fits", (24,), play=unreadable_files),
)  # fmt: skip
