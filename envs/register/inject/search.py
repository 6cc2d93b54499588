"""Try bugs, kind by kind, until the task set has the wanted number of each kind."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing

from sandboxes.progress import Progress, silent

from ..runtime.discover import Suite
from .bugs import Bug
from .kinds import EDIT, SEVERAL, quotas
from .probe import KEPT, Probe
from .several import several

Attempt = Callable[[Iterator[Bug]], Generator[Probe, None, None]]
"""Tries bugs and yields probes in the order of the bugs; may take bugs ahead (`envs.parallel.in_order`)."""
PARTS = 3
"""Kept single bugs that are needed for every bug of the kind `several`."""


class BugSearch:
    """The search for bugs that make tasks: `tried` has all probes, `wanted` the probes that become tasks.

    The order of trials depends on the seed and on earlier results, not on the number of sandboxes.
    """

    def __init__(
        self, attempt: Attempt, suite: Suite, bugs: Mapping[str, Iterator[Bug]], *, name: str, seed: int
    ) -> None:
        """`name` is the library's name, for progress reports."""
        self.tried: list[Probe] = []
        self.wanted: list[Probe] = []
        self._attempt, self._suite, self._name, self._seed = attempt, suite, name, seed
        self._bugs = {kind: _BugQueue(queue) for kind, queue in bugs.items()}

    def run(self, shares: Mapping[str, float], limit: int, *, progress: Progress = silent) -> None:
        """Try bugs until `limit` are wanted, each kind by its share; `edit` fills the gaps of other kinds."""
        what, left = f"putting bugs into {self._name}", quotas(shares, limit)

        def found(kept: int) -> None:
            progress(what, len(self.wanted) + kept, limit)

        found(0)
        for kind in [name for name in self._bugs if name in left]:
            self._find(kind, left[kind], found)
        together = left.get(SEVERAL, 0)
        if together:
            parts = [probe for probe in self.tried if probe.result == KEPT]
            if len(parts) < PARTS * together and EDIT not in shares:
                parts += self._kept(self._bugs[EDIT], PARTS * together - len(parts), lambda _: found(0))
            self._bugs[SEVERAL] = _BugQueue(several(parts, self._suite, seed=self._seed))
            self._find(SEVERAL, together, found)
        if EDIT in shares:
            self._find(EDIT, limit - len(self.wanted), found)

    def _find(self, kind: str, wanted: int, found: Callable[[int], None]) -> None:
        self.wanted += self._kept(self._bugs[kind], wanted, found)

    def _kept(self, supply: _BugQueue, wanted: int, found: Callable[[int], None]) -> list[Probe]:
        """Try bugs until `wanted` bugs are kept, or the queue is empty."""
        kept: list[Probe] = []
        if wanted < 1:
            return kept
        with closing(self._attempt(supply.ahead())) as probes:
            for probe in probes:
                supply.done += 1
                self.tried.append(probe)
                if probe.result == KEPT:
                    kept.append(probe)
                    found(len(kept))
                if len(kept) == wanted:
                    break
        return kept


class _BugQueue:
    """Bugs of one kind. Bugs that were yielded but not tried are yielded again by the next `ahead`."""

    def __init__(self, bugs: Iterator[Bug]) -> None:
        self.done = 0
        """Number of bugs that were tried."""
        self._bugs, self._seen = bugs, list[Bug]()

    def ahead(self) -> Iterator[Bug]:
        """Yield the bugs that were not tried yet."""
        at = self.done
        while True:
            if at == len(self._seen):
                found = next(self._bugs, None)
                if found is None:
                    return
                self._seen.append(found)
            yield self._seen[at]
            at += 1
