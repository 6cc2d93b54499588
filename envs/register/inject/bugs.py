"""A bug: one edit of the code, or several edits that have to be undone together.

Three modules make bugs: `mutate` (one change to the syntax tree, a function without its body),
`reverts` (a reverted hunk of a past change), `several` (combinations of related bugs).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from envs.tasksets.trees import Tree, TreeFile

from .mutate import Mutation

REVERT = "reverted hunk"
SEVERAL = "several bugs"


@dataclass(frozen=True)
class Bug:
    """Edits to an unmodified tree that do not overlap."""

    kind: str
    edits: tuple[Mutation, ...]
    keys: tuple[str, ...] = ()
    """Keys of the past changes that the bug reverts in part."""

    def __post_init__(self) -> None:
        spans = sorted((edit.path, edit.start, edit.end) for edit in self.edits)
        assert spans, "a bug changes something"
        assert all(first[0] != second[0] or first[2] <= second[1] for first, second in pairwise(spans)), (
            "the edits of a bug do not overlap"
        )

    @classmethod
    def of(cls, edit: Mutation, *, keys: tuple[str, ...] = ()) -> Bug:
        """Make a bug of one edit."""
        return cls(edit.kind, (edit,), keys)

    @property
    def path(self) -> str:
        """Path of the first edit; `line` and `function` belong to the same edit."""
        return self.edits[0].path

    @property
    def line(self) -> int:
        return self.edits[0].line

    @property
    def function(self) -> str:
        return self.edits[0].function

    @property
    def places(self) -> tuple[str, ...]:
        """The edited functions, `path::function`, without duplicates."""
        return tuple(dict.fromkeys(edit.place for edit in self.edits))

    @property
    def paths(self) -> tuple[str, ...]:
        """The edited files, without duplicates."""
        return tuple(dict.fromkeys(edit.path for edit in self.edits))

    def only(self, edits: Iterable[Mutation]) -> Bug:
        """Return the bug that consists of these edits only."""
        return Bug(self.kind, tuple(edits), self.keys)

    def files(self, tree: Tree) -> Tree:
        """Return the changed files with the bug, by path."""
        changed: Tree = {}
        for edit in sorted(self.edits, key=lambda edit: (edit.path, -edit.start)):  # offsets stay true
            entry = changed.get(edit.path, tree[edit.path])
            changed[edit.path] = TreeFile(edit.apply(entry.data), entry.executable)
        return changed
