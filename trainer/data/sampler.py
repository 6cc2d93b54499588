"""Task sampler: shuffled rounds, each of which holds every task once.

The state is the task ids, the number of the round and what is left of it, so that a resumed run draws the
same tasks as an uninterrupted one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any


class TaskSampler:
    """Draws task ids without replacement, round after round."""

    def __init__(self, task_ids: Sequence[str], *, seed: int) -> None:
        assert task_ids, "there is no task to draw from"
        assert len(set(task_ids)) == len(task_ids), "task ids must differ"
        self._ids = sorted(task_ids)
        self._seed = seed
        self._round, self._left = 0, list[str]()

    def draw(self, count: int, *, beside: Sequence[str] = ()) -> list[str]:
        """Return the next `count` task ids, all different, and different from those `beside` them.

        An id comes again only where there are not enough others.
        """
        drawn: list[str] = []
        while len(drawn) < count:
            # Where two rounds meet, a task that was drawn just now waits a little: two groups of one task in
            # a step would be compared apart.
            chosen = self._first_other({*drawn, *beside})
            self._left.remove(chosen)
            drawn.append(chosen)
        return drawn

    def _first_other(self, taken: set[str]) -> str:
        """Return the next id that is not taken, from the next round if need be; else the next one."""
        for _ in range(2):
            for name in self._left:
                if name not in taken:
                    return name
            if not self._left or not taken.issuperset(self._ids):
                self._left += self._order(self._round)
                self._round += 1
        return self._left[0]

    def state(self) -> dict[str, Any]:
        """The state as JSON values: `{"ids": [...], "round": 2, "left": [...]}`."""
        return {"ids": self._ids, "round": self._round, "left": list(self._left)}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `state`. Raises ValueError when its task ids differ from these."""
        if state["ids"] != self._ids:
            raise ValueError("the tasks changed since this run was interrupted; start a new run")
        if "drawn" in state:  # written before draws avoided repetitions
            number, position = divmod(int(state["drawn"]), len(self._ids))
            self._round, self._left = number + 1, self._order(number)[position:]
        else:
            self._round, self._left = int(state["round"]), list(state["left"])

    def _order(self, number: int) -> list[str]:
        return random.Random(f"{self._seed}/{number}").sample(self._ids, len(self._ids))
