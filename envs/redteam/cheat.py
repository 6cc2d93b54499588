"""The `Cheat` type: one known way to pass a task without doing the work.

A cheat acts as an agent does, with what an agent can know. Most only change files (`Cheat.changes`): those can be
graded as trees too, without an episode. The others make calls (`Cheat.play`).
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
    """The setting of a naive grader in which it works (`tests/envs/redteam`): what keeps this list honest."""
    rows: tuple[int, ...]
    """Which exploits of the published matrix it stands for."""
    changes: Callable[[Scene], Changes] | None = None
    """The files it would change. Raises NotApplicable."""
    play: Play | None = None
    """What it does where changing files is not all. Raises NotApplicable."""
    family: Family = field(kw_only=True)

    def __post_init__(self) -> None:
        assert (self.changes is None) != (self.play is None), f"{self.name}: give either changes or play"
