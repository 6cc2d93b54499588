"""Finished groups between those that play and the learner.

    start(groups) → ready() yields finished groups → put(group) → take(n, newest_version) → update

Synchronous training is a buffer of one step: every group is taken before the next step starts, so nothing
grows stale. One thread puts and takes; generation that runs ahead puts from the same loop.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from agents.types import Trajectory


@dataclass(frozen=True)
class Group:
    """Episodes of one task that are compared with each other."""

    name: str
    trajectories: tuple[Trajectory, ...]

    @property
    def version(self) -> int | None:
        """Oldest weights that sampled any of its tokens; None when no token has a version."""
        turns = (turn for trajectory in self.trajectories for turn in trajectory.turns)
        return min((span.version for turn in turns for span in turn.action.completion.versions), default=None)


class Buffer:
    """Finished groups, oldest first. What is dropped is counted."""

    def __init__(self, *, capacity: int, max_staleness: int) -> None:
        """Hold at most `capacity` groups, and give out none whose weights are more versions old than that."""
        assert capacity >= 1, "a buffer holds one group at least"
        assert max_staleness >= 0, "no group comes from weights that are yet to be made"
        self._capacity, self._max_staleness = capacity, max_staleness
        self._groups: deque[Group] = deque()
        self.dropped_full = 0
        """Groups that made room for newer ones."""
        self.dropped_stale = 0
        """Groups whose weights were too old when they were to be taken."""

    def __len__(self) -> int:
        return len(self._groups)

    def put(self, group: Group) -> None:
        """Add a finished group; the one that finished first makes room where there is none."""
        if len(self._groups) == self._capacity:
            self._groups.popleft()
            self.dropped_full += 1
        self._groups.append(group)

    def take(self, count: int, newest_version: int) -> list[Group]:
        """Take out up to `count` groups, those that finished first, after dropping all that are stale."""
        fresh = [group for group in self._groups if self._is_fresh(group, newest_version)]
        self.dropped_stale += len(self._groups) - len(fresh)
        self._groups = deque(fresh[count:])
        return fresh[:count]

    def _is_fresh(self, group: Group, newest_version: int) -> bool:
        version = group.version
        return version is None or newest_version - version <= self._max_staleness
