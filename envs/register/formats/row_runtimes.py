"""Choose the environment of each imported row: the row's own image, or an image built for its repository."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from envs.tasksets.taskset import Runtime
from envs.tasksets.trees import Tree
from envs.testing.run import RunnerSetup
from envs.types import Task
from sandboxes.backend import Backend
from sandboxes.base import SandboxError, SandboxSpec, SandboxUnavailable
from sandboxes.images.recipe import ImageRecipe
from sandboxes.progress import Progress

from ..errors import IMAGE_S, RegisterError, plain_name
from ..project.project import canonical, read_project
from ..project.sources import Source
from ..runtime.runtimes import Environments
from .entry import RowError
from .resolving import ResolvedEntry

PROBE_S = 60.0
"""Deadline for checking that an image has Python and pytest."""
_PROBE = "import sys, pytest; print(*sys.version_info[:2])"


@dataclass(frozen=True)
class RowRuntime:
    """The environment of one task."""

    environment: str
    added: Tree
    """Files that a build or installation would generate."""
    workdir: str


class RowRuntimes:
    """Environments by name, created on first use."""

    def __init__(
        self, name: str, backend: Backend, *, images: bool, fixed: Runtime | None, progress: Progress
    ) -> None:
        """`fixed` overrides the images of rows, but not a complete environment inside a row."""
        self.environments: dict[str, Runtime] = {}
        self._backend, self._images, self._fixed = backend, images and fixed is None, fixed
        self._progress = progress
        self._name = name
        self._choosing: dict[str, Environments] = {}
        self._refused: dict[ImageRecipe, str] = {}
        self._probed: dict[str, str] = {}

    def find(self, resolved: ResolvedEntry) -> RowRuntime:
        """Return the environment of an entry and make its image available. Raises RowError."""
        entry = resolved.entry
        if entry.environment is not None:
            return RowRuntime(self._named(*entry.environment), {}, entry.workdir)
        if entry.image and self._images:
            return RowRuntime(self._of_image(resolved), {}, entry.workdir)
        return self._chosen(resolved)

    def used(self, tasks: Sequence[Task]) -> dict[str, Runtime]:
        """Return the environments of these tasks, by name."""
        return {name: self.environments[name] for name in sorted({task.environment for task in tasks})}

    def _chosen(self, resolved: ResolvedEntry) -> RowRuntime:
        project = canonical(str(resolved.entry.traits.get("repo", self._name)).rpartition("/")[2])
        choosing = self._choosing.setdefault(
            project, Environments(project, fixed=self._fixed, progress=self._progress)
        )
        try:
            choice = choosing.choose(resolved.base, resolved.when)
        except RegisterError as error:
            raise RowError(f"environment: {error}") from error
        own = choice.name if choice.name.startswith(project) else f"{project}-{choice.name}"
        name = self._named(own, choice.environment)
        added = {path: file for path, file in choice.project.tree.items() if path not in resolved.base}
        return RowRuntime(name, added, SandboxSpec.workdir)

    def _ensure(self, name: str, environment: Runtime) -> None:
        if environment.image in self._refused:
            raise RowError(self._refused[environment.image])
        if name in self.environments:
            return
        try:
            self._backend.ensure_image(environment.image, timeout_s=IMAGE_S, progress=self._progress)
        except SandboxUnavailable as error:
            self._refused[environment.image] = f"environment: {error}"
            raise RowError(self._refused[environment.image]) from error
        self.environments[name] = environment

    def _of_image(self, resolved: ResolvedEntry) -> str:
        """Return the environment name of a row's Docker image. Raises RowError for an unusable image."""
        image = resolved.entry.image
        recipe = ImageRecipe(name=_slug(image), base=_qualified(image))
        name = self._named(recipe.name, Runtime(recipe, _setup(resolved.base)))
        if image not in self._probed:
            self._probed[image] = self._problem(self.environments[name])
        if self._probed[image]:
            raise RowError(f"image: {image} {self._probed[image]}")
        return name

    def _problem(self, environment: Runtime) -> str:
        """Return why tests cannot run in an image, or an empty string."""
        try:
            sandbox = self._backend.open(SandboxSpec(image=environment.image.ref), timeout_s=PROBE_S)
            try:
                found = sandbox.exec(["python3", "-c", _PROBE], timeout_s=PROBE_S)
            finally:
                sandbox.close()
        except SandboxError as error:
            return f"cannot be used: {error}"
        return "" if found.exit_code == 0 else "has no python3 with pytest"

    def _named(self, name: str, environment: Runtime) -> str:
        """Store an environment under its name, or under `NAME-2`, `NAME-3` if the name is in use."""
        free = name
        while free in self.environments and self.environments[free] != environment:
            number = int(free.removeprefix(f"{name}-")) + 1 if free != name else 2
            free = f"{name}-{number}"
        self._ensure(free, environment)
        return free


def _setup(tree: Tree) -> RunnerSetup:
    """Return the test configuration that the tree declares, or the default."""
    try:
        return read_project(Source("project", "0", "git", tree)).tests
    except RegisterError:
        return RunnerSetup()


def _qualified(image: str) -> str:
    """Add the tag `latest` to an untagged image: a recipe's base without a tag is a Debian release."""
    return image if ":" in image.rsplit("/", 1)[-1] else f"{image}:latest"


def _slug(image: str) -> str:
    """Return an image's name with the characters that image names of this project allow."""
    return plain_name(image)
