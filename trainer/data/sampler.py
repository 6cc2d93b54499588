"""Task sampler: shuffled rounds, each of which holds every task once.

The state is the task ids and the number of draws, so that a resumed run draws the same tasks as an
uninterrupted one.
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
        self._drawn = 0

    def draw(self, count: int) -> list[str]:
        """Return the next `count` task ids; an id may repeat where two rounds meet."""
        drawn: list[str] = []
        while len(drawn) < count:
            number, position = divmod(self._drawn, len(self._ids))
            order = random.Random(f"{self._seed}/{number}").sample(self._ids, len(self._ids))
            left = len(order) - position
            part = order[position : position + min(left, count - len(drawn))]
            drawn += part
            self._drawn += len(part)
        return drawn

    def state(self) -> dict[str, Any]:
        """The state as JSON values: `{"ids": [...], "drawn": 12}`."""
        return {"ids": self._ids, "drawn": self._drawn}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a `state`. Raises ValueError when its task ids differ from these."""
        if state["ids"] != self._ids:
            raise ValueError("the tasks changed since this run was interrupted; start a new run")
        self._drawn = int(state["drawn"])
