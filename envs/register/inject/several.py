"""Several bugs at once: two or three that were noticed alone, in functions that belong together."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations

from ..runtime.discover import Suite
from .bugs import SEVERAL, Bug
from .probe import Probe

TRIPLE_EVERY = 3
"""Each third is a bug of three places."""


def several(parts: Sequence[Probe], suite: Suite, *, seed: int) -> Iterator[Bug]:
    """Bugs of two or three kept ones in different functions, each part used as evenly as can be."""
    generator = random.Random(seed)
    pairs = [pair for pair in combinations(parts, 2) if _related(*pair, suite)]
    generator.shuffle(pairs)
    used: Counter[Bug] = Counter()
    number = 0
    while pairs:
        pair = min(pairs, key=lambda pair: sum(used[each.bug] for each in pair))
        pairs.remove(pair)
        number += 1
        chosen = list(pair)
        thirds = [each for each in parts if _is_third(each, pair, suite)]
        if thirds and number % TRIPLE_EVERY == 0:
            chosen.append(min(thirds, key=lambda each: used[each.bug]))
        used.update(each.bug for each in chosen)
        edits = sorted((edit for each in chosen for edit in each.bug.edits), key=lambda e: (e.path, e.start))
        yield Bug(SEVERAL, tuple(edits), tuple(sorted({key for each in chosen for key in each.bug.keys})))


def _is_third(part: Probe, pair: Sequence[Probe], suite: Suite) -> bool:
    return all(_apart(part.bug, each.bug) for each in pair) and any(
        _related(part, each, suite) for each in pair
    )


def _related(one: Probe, other: Probe, suite: Suite) -> bool:
    """Whether two bugs are in different functions, and a test notices both, or one calls the other."""
    if not _apart(one.bug, other.bug):
        return False
    called = any(
        b in suite.steps.get(a, ()) or a in suite.steps.get(b, ())
        for a in one.bug.places
        for b in other.bug.places
    )
    return called or not set(one.failing).isdisjoint(other.failing)


def _apart(one: Bug, other: Bug) -> bool:
    """Whether no function of one is, or is inside, a function of the other."""
    return not any(
        f"{a}.".startswith(f"{b}.") or f"{b}.".startswith(f"{a}.") for a in one.places for b in other.places
    )
