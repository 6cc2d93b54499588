"""Where imported tasks run: in the image that a row names, or in an environment built from its repository."""

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
_PROBE = "import sys, pytest; print(*sys.version_info[:2])"


@dataclass(frozen=True)
class RowRuntime:
    """Where one task runs."""

    environment: str
    added: Tree
    """Files that an installation would have generated."""
    workdir: str


class RowRuntimes:
    """Environments by name, made when the first row asks for them."""

    def __init__(
        self, name: str, backend: Backend, *, images: bool, fixed: Runtime | None, progress: Progress
    ) -> None:
        """With `fixed`, entries run there, whatever image they name, unless they bring an environment."""
        self.environments: dict[str, Runtime] = {}
        self._backend, self._images, self._fixed = backend, images and fixed is None, fixed
        self._progress = progress
        self._name = name
        self._choosing: dict[str, Environments] = {}
        self._refused: dict[ImageRecipe, str] = {}
        self._probed: dict[str, str] = {}

    def find(self, resolved: ResolvedEntry) -> RowRuntime:
        """Return where an entry's tests run; its image is there then. Raises RowError."""
        entry = resolved.entry
        if entry.environment is not None:
            return RowRuntime(self._named(*entry.environment), {}, entry.workdir)
        if entry.image and self._images:
            return RowRuntime(self._of_image(resolved), {}, entry.workdir)
        return self._chosen(resolved)

    def used(self, tasks: Sequence[Task]) -> dict[str, Runtime]:
        """Return the environments that tasks name."""
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
        """Use an image that is there or can be pulled, if our tools can work in it."""
        image = resolved.entry.image
        recipe = ImageRecipe(name=_slug(image), base=_qualified(image))
        name = self._named(recipe.name, Runtime(recipe, _setup(resolved.base)))
        if image not in self._probed:
            self._probed[image] = self._problem(self.environments[name])
        if self._probed[image]:
            raise RowError(f"image: {image} {self._probed[image]}")
        return name

    def _problem(self, environment: Runtime) -> str:
        """Say why tests cannot be run in an image, or return an empty string."""
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
        """Keep an environment that a row brought under its own name, or one like it."""
        free = name
        while free in self.environments and self.environments[free] != environment:
            number = int(free.removeprefix(f"{name}-")) + 1 if free != name else 2
            free = f"{name}-{number}"
        self._ensure(free, environment)
        return free


def _setup(tree: Tree) -> RunnerSetup:
    """How the tree's tests are run, as far as it says so itself."""
    try:
        return read_project(Source("project", "0", "git", tree)).tests
    except RegisterError:
        return RunnerSetup()


def _qualified(image: str) -> str:
    """An image's name as a recipe tells it from a Debian release: with a tag."""
    return image if ":" in image.rsplit("/", 1)[-1] else f"{image}:latest"


def _slug(image: str) -> str:
    """An image's name as it may stand in the name of another."""
    return plain_name(image)
