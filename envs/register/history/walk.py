"""Walk a history, newest change first, for changes that could be tasks, and choose their environments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from envs.tasksets.trees import Tree
from sandboxes.backend import Backend
from sandboxes.base import SandboxUnavailable
from sandboxes.progress import Progress, silent

from ..errors import IMAGE_S, RegisterError
from ..proof.proofs import Draft
from ..runtime.runtimes import Environments
from .fixes import Fix, NoTask, refuse_by_names, split
from .mainline import Change, History


@dataclass(frozen=True)
class ProvableChange:
    """A change with code, tests, and an environment that builds."""

    place: int
    """Index of the change in `History.changes`, and in the list of past changes."""
    change: Change
    fix: Fix
    environment: str


@dataclass
class Walk:
    """Yields drafts, and records the result of every examined change."""

    history: History
    environments: Environments
    backend: Backend
    progress: Progress = silent
    results: dict[int, str] = field(default_factory=dict)
    """Place of a change to the reason why it makes no task; the caller adds the results of proofs."""
    pending: dict[str, ProvableChange] = field(default_factory=dict)
    """Id of a draft to its change; the caller removes the entry when the proof arrives."""
    with_tests: set[int] = field(default_factory=set)
    """Places of the changes that alter code and tests, whatever their result."""
    built: set[int] = field(default_factory=set)
    """Places, out of `with_tests`, of the changes whose environment builds."""
    _unbuilt: dict[str, str] = field(default_factory=dict)
    """Name of an environment to the error of its build; empty for a build that succeeded."""

    def drafts(self) -> Iterator[Draft]:
        """Yield drafts worth proving, newest first. Raises RegisterError if the history cannot be read."""
        for place in reversed(range(len(self.history.changes))):
            try:
                provable = self._provable(place)
            except NoTask as refusal:
                self.results[place] = str(refusal)
                continue
            self.pending[str(place)] = provable
            fix = provable.fix
            yield Draft(
                id=str(place),
                environment=provable.environment,
                base=fix.base,
                solved=fix.solved,
                reference_patch=fix.reference_patch,
                test_files=fix.tests,
                origin=provable.change.commit,
            )

    def _provable(self, place: int) -> ProvableChange:
        """Examine one change. Raises NoTask."""
        change = self.history.changes[place]
        if not change.base:
            raise NoTask("has no parent")
        reason = refuse_by_names(change.files)
        if reason:
            raise NoTask(reason)
        self.with_tests.add(place)
        left_out = {row.rpartition(" (")[0] for row in self.history.left_out(change.commit)}
        fix = split(
            self.history.tree(change.base), self.history.tree(change.commit), left_out & {*change.files}
        )
        try:
            choice = self.environments.choose(fix.solved, change.merged_at)
        except RegisterError as error:
            raise NoTask(f"its environment cannot be found out: {error}") from error
        self._build(choice.name)
        self.built.add(place)
        added: Tree = {path: file for path, file in choice.project.tree.items() if path not in fix.solved}
        return ProvableChange(place, change, fix.over(added), choice.name)

    def _build(self, name: str) -> None:
        """Build the image of an environment; a failed build is not tried again. Raises NoTask."""
        if name not in self._unbuilt:
            image = self.environments.chosen[name].image
            try:
                self.backend.ensure_image(image, timeout_s=IMAGE_S, progress=self.progress)
                self._unbuilt[name] = ""
            except SandboxUnavailable as error:
                self._unbuilt[name] = str(error)
        if self._unbuilt[name]:
            raise NoTask(f"its environment does not build: {self._unbuilt[name]}")
