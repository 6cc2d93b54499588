"""Which tasks come next: every task once before any comes again, in an order drawn anew each round.

Its state is small and plain, so that a resumed run draws exactly what the interrupted one would have drawn.
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
        """Draw the next `count` ids. Within one draw ids repeat only when there are fewer than `count`."""
        drawn: list[str] = []
        while len(drawn) < count:
            number, position = divmod(self._drawn, len(self._ids))
            order = random.Random(f"{self._seed}/{number}").sample(self._ids, len(self._ids))
            left = len(order) - position
            # At the seam of two rounds a task may come up twice; it then waits for its next turn.
            part = order[position : position + min(left, count - len(drawn))]
            drawn += part
            self._drawn += len(part)
        return drawn

    def state(self) -> dict[str, Any]:
        """Everything needed to go on."""
        return {"ids": self._ids, "drawn": self._drawn}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state` of the same tasks. Raises ValueError when the tasks are others."""
        if state["ids"] != self._ids:
            raise ValueError("the tasks changed since this run was interrupted; start a new run")
        self._drawn = int(state["drawn"])
