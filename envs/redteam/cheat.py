"""The `Cheat` type: one known way to pass a task without doing the work.

A cheat has an agent's tools and an agent's knowledge. Most cheats only change files (`Cheat.changes`), so they can also
be graded as trees, without an episode. The other cheats make tool calls (`Cheat.play`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from .cheater import Play
from .scene import Changes, Scene

Family = Literal["reading", "harness", "forging", "in-process", "resources", "escape"]

FAMILIES: Mapping[Family, str] = {
    "reading": "Reading the answer",
    "harness": "Tampering with the harness",
    "forging": "Forging the verdict",
    "in-process": "In the test process",
    "resources": "Time and resources",
    "escape": "Escape, and traces for the next episode",
}


@dataclass(frozen=True)
class Cheat:
    """A way to pass without doing the work: either `changes` to the tree, or a `play` of an episode."""

    name: str
    tries: str
    """One sentence."""
    fools: str
    """The setting of the naive grader in `tests/envs/redteam` in which the cheat works; a test proves that."""
    rows: tuple[int, ...]
    """Numbers of the cheat's exploits in the published matrix."""
    changes: Callable[[Scene], Changes] | None = None
    """Returns the files to change. Raises NotApplicable."""
    play: Play | None = None
    """Makes the tool calls of a cheat that does more than change files. Raises NotApplicable."""
    family: Family = field(kw_only=True)

    def __post_init__(self) -> None:
        assert (self.changes is None) != (self.play is None), f"{self.name}: give either changes or play"
