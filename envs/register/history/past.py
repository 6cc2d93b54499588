"""Past changes of a library, and the changes among them that a task may not show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from envs.tasksets.taskset import PullRequest
from envs.tasksets.trees import Tree

from ..errors import RegisterError
from ..project.sources import Source
from ..proof.withheld import withheld
from .mainline import open_history
from .pulls import past_changes

HISTORY_S = 300.0
"""Deadline for cloning and walking a history."""


@dataclass(frozen=True)
class Past:
    """The past changes of a library, in the order of merging; all of them lie before every task's base."""

    prs: tuple[PullRequest, ...] = ()
    commits: Mapping[str, str] = field(default_factory=dict)
    """Key of a change to its commit id."""
    notes: tuple[str, ...] = ()
    """Reasons why the past changes could not be read."""

    def withheld(self, base: Tree, reference_patch: str, keys: Sequence[str]) -> tuple[str, ...]:
        """Return the keys of changes that a task may not show: changes that give the fix away, and `keys`,
        the changes that the task's bug reverts.
        """
        found = set(keys)
        for key in keys or ("",):  # a bug that reverts no change still has a fix to search for
            number = int(key) if key.isdecimal() else None
            found |= {*withheld(self.prs, base, reference_patch, self.commits.get(key, ""), number=number)}
        return tuple(pr.key for pr in self.prs if pr.key in found)


NO_PAST = Past()


def read_past(source: Source) -> Past:
    """Read the history that ends at a source's commit; return no changes for a source without a commit.

    If the history cannot be read completely (for example, in a shallow clone), the result has no changes and
    a note with the reason, because only the kind `revert` needs a history.
    """
    if not source.commit:
        return NO_PAST
    try:
        with open_history(source.origin, timeout_s=HISTORY_S) as history:
            if history.head != source.commit:
                return Past(notes=("no past changes: the repository moved on while it was read",))
            prs = tuple(past_changes(history))
            commits = [change.commit for change in history.changes]
    except RegisterError as error:
        return Past(notes=(f"no past changes: {error}",))
    return Past(prs, {pr.key: commit for pr, commit in zip(prs, commits, strict=True)})
