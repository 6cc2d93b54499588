"""The held-out split: the names whose tasks training never sees."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

HELDOUT = 0.25
"""Share of a set's tasks."""


def held_out(names: Sequence[str], share: float) -> frozenset[str]:
    """Choose names, in the order of their digests, until they hold the share of tasks.

    `names` has one for each task. All tasks of a name are on one side, and training keeps at least one name;
    a name that alone holds much more than the share stays in training.
    """
    order = sorted(set(names), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    away: set[str] = set()
    covered = 0
    for name in order[:-1]:
        if covered + 0.5 >= share * len(names):
            break
        if covered + names.count(name) > 1.5 * share * len(names) + 1:
            continue
        away.add(name)
        covered += names.count(name)
    return frozenset(away)
