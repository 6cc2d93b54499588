"""Open the repositories of rows: given local clones, or else clones from the public address."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from envs.tasksets.trees import PatchError, Tree, apply_patch

from ..errors import RegisterError
from ..history.mainline import History, open_history
from .entry import Checkout, RowError

HOST = "https://github.com"
"""The host of `owner/name` in every supported format."""
CLONE_S = 900.0
"""Deadline for cloning one repository."""


@dataclass(frozen=True)
class BaseTree:
    """The base tree of a row, with its provenance."""

    tree: Tree
    commit: str
    """The full commit id, even if the row has a prefix."""
    when: str
    """The commit's time, ISO 8601, UTC."""
    clean: Tree
    """The commit's files without the row's patch."""


class Repositories:
    """Repositories by name, opened on first use. A context manager, whose exit deletes the clones."""

    def __init__(self, given: Mapping[str, Path] | Path | None, *, timeout_s: float = CLONE_S) -> None:
        """`given` is a folder of local clones, or paths by repository name."""
        self._given, self._timeout_s = given, timeout_s
        self._opened: dict[str, History | str] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Repositories:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def base(self, checkout: Checkout) -> BaseTree:
        """Return the base tree of a row. Raises RowError."""
        history = self._history(checkout.repository)
        wanted = checkout.commit + ("^" if checkout.parent_of else "")
        try:
            commit, when = _commit(history, wanted)
        except RegisterError as error:
            raise RowError(f"base_commit: {checkout.repository} has no commit {wanted}") from error
        try:
            tree = history.tree(commit)
        except RegisterError as error:
            raise RowError(f"base_commit: {error}") from error
        try:
            return BaseTree(apply_patch(tree, checkout.patch), commit, when, tree)
        except PatchError as error:
            raise RowError(f"patch: does not apply to {wanted} ({error})") from error

    def _history(self, name: str) -> History:
        if name not in self._opened:
            self._opened[name] = self._open(name)
        found = self._opened[name]
        if isinstance(found, str):
            raise RowError(found)
        return found

    def _open(self, name: str) -> History | str:
        """Open a repository, or return the reason of the failure, which the caller caches."""
        source = self._local(name) or (name if "://" in name else f"{HOST}/{name}")
        try:
            return self._stack.enter_context(open_history(source, timeout_s=self._timeout_s))
        except RegisterError as error:
            missing = "" if source == name or Path(source).exists() else " is not among the given clones, and"
            return f"repo: {name}{missing} {error}" if missing else f"repo: {error}"

    def _local(self, name: str) -> str:
        if isinstance(self._given, Path):
            names = (name, name.replace("/", "__"), name.rsplit("/", 1)[-1])
            places = [self._given / name for name in (*names, *(f"{name}.git" for name in names))]
        else:
            places = [Path(self._given[name])] if self._given and name in self._given else []
        return next((str(place) for place in places if place.is_dir()), "")


def _commit(history: History, wanted: str) -> tuple[str, str]:
    """Return a commit's full id and time. Raises RegisterError for an unknown commit."""
    lines = history.repository.lines("show", "-s", "--format=%H %ct", f"{wanted}^{{commit}}")
    commit, seconds = next(lines).decode().split()
    return commit, datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
