"""Combine two or three single bugs, which tests notice, into a bug of the kind `several`."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations

from ..runtime.discover import Suite
from .bugs import SEVERAL, Bug
from .probe import Probe

TRIPLE_EVERY = 3
"""Every third bug has three parts, if a third related part exists."""


def several(parts: Sequence[Probe], suite: Suite, *, seed: int) -> Iterator[Bug]:
    """Yield bugs that combine two or three kept bugs of different functions, using all parts about equally
    often.
    """
    generator = random.Random(seed)
    pairs = [pair for pair in combinations(parts, 2) if _related(*pair, suite)]
    generator.shuffle(pairs)
    used: Counter[Bug] = Counter()
    number = 0
    while pairs:
        pair = min(pairs, key=lambda pair: sum(used[half.bug] for half in pair))
        pairs.remove(pair)
        number += 1
        chosen = list(pair)
        thirds = [part for part in parts if _is_third(part, pair, suite)]
        if thirds and number % TRIPLE_EVERY == 0:
            chosen.append(min(thirds, key=lambda part: used[part.bug]))
        used.update(part.bug for part in chosen)
        edits = sorted(
            (edit for part in chosen for edit in part.bug.edits), key=lambda edit: (edit.path, edit.start)
        )
        yield Bug(SEVERAL, tuple(edits), tuple(sorted({key for part in chosen for key in part.bug.keys})))


def _is_third(part: Probe, pair: Sequence[Probe], suite: Suite) -> bool:
    return all(_apart(part.bug, half.bug) for half in pair) and any(
        _related(part, half, suite) for half in pair
    )


def _related(first: Probe, second: Probe, suite: Suite) -> bool:
    """Return whether two bugs are in different functions that share a failing test, or of which one calls the
    other.
    """
    if not _apart(first.bug, second.bug):
        return False
    called = any(
        b in suite.steps.get(a, ()) or a in suite.steps.get(b, ())
        for a in first.bug.places
        for b in second.bug.places
    )
    return called or not set(first.failing).isdisjoint(second.failing)


def _apart(first: Bug, second: Bug) -> bool:
    """Return whether the bugs share no function, and no function of either bug encloses one of the other."""
    return not any(
        f"{a}.".startswith(f"{b}.") or f"{b}.".startswith(f"{a}.")
        for a in first.places
        for b in second.places
    )
