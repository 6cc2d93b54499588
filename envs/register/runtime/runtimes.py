"""Choose the environment in which the tests of a past commit run. Many commits share few environments.

A commit gets the Python and the dependency versions of its date. Two commits share an environment when they
have the same requirements in the same half-year. Versions are those of the half-year's first day, so that no
dependency is newer than a commit; if these do not satisfy the requirements, those of the last day.
"""

from __future__ import annotations

import hashlib
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from envs.tasksets.taskset import Runtime
from envs.tasksets.trees import Tree
from envs.testing.run import RunnerSetup
from sandboxes.base import SandboxUnavailable
from sandboxes.images.build import ensure_base
from sandboxes.images.recipe import ImageRecipe
from sandboxes.progress import Progress, silent

from ..errors import RegisterError, plain_name
from ..project.project import Project, read_project
from ..project.pythons import Base, is_python2, packages_of, preferred
from ..project.requirements import Resolution, resolve_as_of
from ..project.sources import Source

BASE_S = 900.0
"""Deadline for bootstrapping a Debian base."""
VERSION = "0.0.0"
"""The project's own version in its metadata: a constant, since one environment serves many versions."""

Resolver = Callable[..., Resolution]
"""The signature of `resolve_as_of`; tests without a package index pass another function."""


@dataclass(frozen=True)
class Choice:
    """The environment of one tree, and notes on its choice."""

    name: str
    environment: Runtime
    project: Project
    """The tree's declarations; `project.tree` adds the files that a build would generate."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Image:
    """The image recipe for one combination of Python, half-year and requirements."""

    recipe: ImageRecipe
    notes: tuple[str, ...]


class Environments:
    """Chooses, resolves and groups environments. Not thread-safe."""

    def __init__(
        self,
        name: str,
        *,
        progress: Progress = silent,
        fixed: Runtime | None = None,
        resolver: Resolver = resolve_as_of,
        bootstrap: Callable[[ImageRecipe], None] | None = None,
    ) -> None:
        """`fixed` applies to every tree. `bootstrap` makes a recipe's base, or raises SandboxUnavailable."""
        self._name, self._progress, self._fixed = name, progress, fixed
        self._resolver = resolver
        self._bootstrap = bootstrap or self._bootstrapped
        self._bases: dict[str, str] = {}
        self._images: dict[tuple[object, ...], _Image | RegisterError] = {}
        self._chosen: dict[str, Runtime] = {}

    @property
    def chosen(self) -> Mapping[str, Runtime]:
        """The environments chosen so far, by name such as `py311-2023h1`; a live view."""
        return MappingProxyType(self._chosen)

    @property
    def name(self) -> str:
        """The name of the library."""
        return self._name

    def choose(self, tree: Tree, when: str) -> Choice:
        """Choose the environment of a tree at time `when` (ISO 8601). Raises RegisterError when none fits."""
        source = Source(self._name, when[:10], "git", tree)
        if self._fixed is not None:
            name = self._fixed.image.name
            self._chosen[name] = self._fixed
            return Choice(name, self._fixed, _bare(source, self._fixed.tests))
        project = read_project(source)
        if is_python2(tree[path].data for path in project.modules if path in tree):
            raise RegisterError("its code is for Python 2, which no base has")
        base, notes = self._base(project, when)
        image = self._image(project, base, when)
        environment = Runtime(image.recipe, project.tests)
        name = self._named(environment, f"py{base.python.replace('.', '')}-{half_year(when)[0]}")
        return Choice(name, environment, project, (*project.notes, *notes, *image.notes))

    def _base(self, project: Project, when: str) -> tuple[Base, tuple[str, ...]]:
        """Return the most suitable base that this machine can bootstrap, and notes on the rejected bases."""
        bases = preferred(project.python, project.classifiers, when)
        if not bases:
            raise RegisterError(f"it asks for Python {project.python}, which no base has")
        notes = []
        for base in bases:
            problem = self._problem(base)
            if not problem:
                return base, tuple(notes)
            notes.append(f"Python {base.python} would fit, but its base cannot be made here: {problem}")
        raise RegisterError(notes[-1])

    def _problem(self, base: Base) -> str:
        if base.release not in self._bases:
            try:
                self._bootstrap(ImageRecipe(self._name, python=base.python, base=base.release))
                self._bases[base.release] = ""
            except SandboxUnavailable as error:
                self._bases[base.release] = str(error)
        return self._bases[base.release]

    def _bootstrapped(self, recipe: ImageRecipe) -> None:
        ensure_base(recipe, deadline=time.monotonic() + BASE_S, progress=self._progress)

    def _image(self, project: Project, base: Base, when: str) -> _Image:
        """Return the image for a project's requirements; results and failures are cached per combination."""
        label, start, end = half_year(when)
        key = (base, label, project.distribution, project.requirements, project.apart)
        if key not in self._images:
            try:
                self._images[key] = self._resolved(project, base, (start, end))
            except RegisterError as error:
                self._images[key] = error
        found = self._images[key]
        if isinstance(found, RegisterError):
            raise RegisterError(str(found))
        return found

    def _resolved(self, project: Project, base: Base, dates: Sequence[str]) -> _Image:
        resolution = self._resolver(
            project.distribution,
            project.requirements,
            python=base.full_version,
            dates=dates,
            supported=base.supported,
        )
        recipe = ImageRecipe(
            name=plain_name(self._name, "library"),
            requirements=resolution.pins,
            packages=packages_of(project.apart, base.python),
            python=base.python,
            base=base.release,
            provides=(f"{project.distribution}=={VERSION}",),
        )
        return _Image(recipe, resolution.notes)

    def _named(self, environment: Runtime, plain: str) -> str:
        """Return the environment's name: `plain`, plus a digest if another environment has the plain name."""
        known = next((name for name, runtime in self._chosen.items() if runtime == environment), "")
        if known:
            return known
        digest = hashlib.sha256(repr(environment).encode()).hexdigest()
        for name in (plain, f"{plain}-{digest[:4]}", f"{plain}-{digest[:12]}"):
            if self._chosen.setdefault(name, environment) == environment:
                return name
        raise AssertionError("digests of different environments differ")


def half_year(when: str) -> tuple[str, str, str]:
    """Return the half-year of a time: name, start and end, such as `2023h1` and two ISO 8601 times."""
    time = datetime.fromisoformat(when)
    if time.month <= 6:
        return f"{time.year}h1", f"{time.year}-01-01T00:00:00Z", f"{time.year}-07-01T00:00:00Z"
    return f"{time.year}h2", f"{time.year}-07-01T00:00:00Z", f"{time.year + 1}-01-01T00:00:00Z"


def load_recipe(path: Path) -> Runtime:
    """Read an environment from a TOML file with the tables `image` and `tests`, as in `taskset.toml`.

    Requirements are the complete list of exact pins (`name==version`): nothing else is installed. Raises
    RegisterError when the file cannot be read or is invalid.
    """
    try:
        settings = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise RegisterError(f"the recipe {path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise RegisterError(f"the recipe {path} is not TOML: {error}") from error
    tables = {"image": ImageRecipe, "tests": RunnerSetup}
    unknown = [key for key in settings if key not in tables]
    for table, kind in tables.items():
        found = settings.setdefault(table, {})
        known = {field.name for field in fields(kind)}
        unknown += [f"{table}.{key}" for key in found if key not in known] if isinstance(found, dict) else []
    if unknown:
        raise RegisterError(f"the recipe {path} has an unknown key {unknown[0]!r}")
    if isinstance(settings["image"], dict):
        settings["image"].setdefault("name", plain_name(path.stem, "recipe"))
    environment = _validated(settings, path)
    loose = [line for line in environment.image.requirements if "==" not in line]
    if loose:
        raise RegisterError(f"the recipe {path}: {loose[0]!r} is no exact pin; write name==version")
    return environment


def _validated(settings: Mapping[str, Any], path: Path) -> Runtime:
    try:
        return TypeAdapter(Runtime).validate_python(settings)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise RegisterError(f"the recipe {path}: {place}: {first['msg']}") from error


def _bare(source: Source, tests: RunnerSetup) -> Project:
    """Describe a tree under a fixed recipe. The tree may be in another language than Python."""
    try:
        project = read_project(source)
    except RegisterError:
        return Project(source, dict(source.tree), (), (), (), tests)
    return Project(
        project.source,
        project.tree,
        project.modules,
        project.test_files,
        (),
        tests,
        project.notes,
        project.distribution,
        project.python,
        project.classifiers,
    )
