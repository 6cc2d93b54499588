"""Buffer of finished groups between the executor and the learner.

    start(groups) → ready() yields finished groups → put(group) → take(n, newest_version) → update

Synchronous training uses a buffer of one step: every group is taken before the next step starts, so no group
becomes stale. Not thread-safe: the training loop both puts and takes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from agents.types import Trajectory


@dataclass(frozen=True)
class Group:
    """The episodes of one task whose rewards are compared with each other.

    `Group("step-3/0/wcwidth-17", (trajectory, trajectory, …))`
    """

    name: str
    trajectories: tuple[Trajectory, ...]

    @property
    def version(self) -> int | None:
        """Oldest weight version among the sampled tokens; None when no token has a version."""
        turns = (turn for trajectory in self.trajectories for turn in trajectory.turns)
        return min((span.version for turn in turns for span in turn.action.completion.versions), default=None)


class Buffer:
    """A first-in, first-out queue of finished groups that counts the groups it drops."""

    def __init__(self, *, capacity: int, max_staleness: int) -> None:
        """Hold at most `capacity` groups; drop groups more than `max_staleness` weight versions old."""
        assert capacity >= 1, "a buffer holds one group at least"
        assert max_staleness >= 0, "no group comes from weights that are yet to be made"
        self._capacity, self._max_staleness = capacity, max_staleness
        self._groups: deque[Group] = deque()
        self.dropped_full = 0
        """Groups dropped because the buffer was full."""
        self.dropped_stale = 0
        """Groups dropped because they exceeded the staleness bound."""

    def __len__(self) -> int:
        return len(self._groups)

    def put(self, group: Group) -> None:
        """Add a finished group; a full buffer drops its oldest group."""
        if len(self._groups) == self._capacity:
            self._groups.popleft()
            self.dropped_full += 1
        self._groups.append(group)

    def take(self, count: int, newest_version: int) -> list[Group]:
        """Drop the stale groups, then remove and return the `count` oldest, or fewer."""
        fresh = [group for group in self._groups if self._is_fresh(group, newest_version)]
        self.dropped_stale += len(self._groups) - len(fresh)
        self._groups = deque(fresh[count:])
        return fresh[:count]

    def _is_fresh(self, group: Group, newest_version: int) -> bool:
        version = group.version
        return version is None or newest_version - version <= self._max_staleness
