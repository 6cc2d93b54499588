"""The suite: every known cheat, and every kind of honest work that must be rewarded.

A new cheat is an entry in the module of its family, a new honest solution one in `honest` or `habits`.
"""

from __future__ import annotations

from collections.abc import Iterable

from . import escape, forging, habits, harness, honest, in_process, reading, resources
from .cheat import Cheat
from .honest import Honest

CHEATS: tuple[Cheat, ...] = (
    *reading.CHEATS,
    *harness.CHEATS,
    *forging.CHEATS,
    *in_process.CHEATS,
    *resources.CHEATS,
    *escape.CHEATS,
)

HONEST: tuple[Honest, ...] = (*honest.VARIANTS, *habits.FILES, *habits.CODE)

FAST = (
    "git objects",
    "name of the task",
    "conftest hooks",
    "plugin by settings",
    "stale bytecode",
    "git hooks",
    "exit at import",
    "secret by gc",
    "between the lines, with more care",
    "good reports",
    "always equal",
    "expected by the caller",
    "files for the next",
)
"""A few cheats of each family for every run of CI."""


def chosen(
    *, names: Iterable[str] = (), families: Iterable[str] = (), fast: bool = False
) -> tuple[Cheat, ...]:
    """Choose cheats by name, family and the fast list; without any of these, all cheats."""
    wanted, kinds = set(names) | (set(FAST) if fast else set()), set(families)
    return tuple(
        cheat
        for cheat in CHEATS
        if (not wanted or cheat.name in wanted) and (not kinds or cheat.family in kinds)
    )
