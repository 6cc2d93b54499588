"""Rebuild the images of a task set from `taskset.toml` alone, and compare them with the recorded digests.

A digest covers the image's environment folder: installed distributions and their files. Registration records
the digest (`lock.json`, evidence, `images`: reference to digest). The Debian base below follows Debian's own
updates and is not covered.
"""

from __future__ import annotations

import json
import time
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from envs.tasksets.taskset import Manifest, Runtime
from sandboxes.backend import Backend
from sandboxes.base import SandboxError, SandboxSpec
from sandboxes.images.build import ENVIRONMENT_FOLDER, ensure_environment
from sandboxes.images.recipe import ImageRecipe
from sandboxes.progress import Progress, silent

from ..errors import RegisterError, RegisterOutage
from ..project.declared import canonical
from .contents import contents

IMAGE_S = 1800.0
"""Deadline for one image, including its base if that is missing."""
LOOK_S = 120.0
"""Deadline for reading an image's contents."""


@dataclass(frozen=True)
class BuiltImage:
    """One rebuilt image, compared with the image at registration."""

    ref: str
    environments: tuple[str, ...]
    """Names of the environments that use the image."""
    digest: str
    recorded: str
    """The digest at registration; empty when none is recorded."""
    problems: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class BuildReport:
    """The rebuilt images of a task set and their differences."""

    name: str
    images: tuple[BuiltImage, ...]
    wall_s: float

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(problem for image in self.images for problem in image.problems)

    @property
    def ok(self) -> bool:
        return not self.problems


def build(folder: Path, *, backend: Backend, progress: Progress = silent) -> BuildReport:
    """Build every image of a task set.

    Raises RegisterError when the manifest cannot be read, RegisterOutage when an image cannot be built.
    """
    started = time.monotonic()
    manifest, recorded = _manifest(folder), _recorded(folder)
    users: dict[ImageRecipe, list[str]] = {}
    for name, environment in manifest.environments.items():
        users.setdefault(environment.image, []).append(name)
    images, what = list[BuiltImage](), f"building the images of {manifest.name}"
    progress(what, 0, len(users))
    for recipe, names in users.items():
        try:
            images.append(_built(recipe, tuple(names), recorded.get(recipe.ref, ""), backend, progress))
        except SandboxError as error:
            raise RegisterOutage(f"the image of {', '.join(names)} cannot be built: {error}") from error
        progress(what, len(images), len(users))
    return BuildReport(manifest.name, tuple(images), time.monotonic() - started)


def image_digest(recipe: ImageRecipe, *, timeout_s: float = IMAGE_S, progress: Progress = silent) -> str:
    """Return the digest of a recipe's environment folder in the cache. Raises SandboxUnavailable."""
    folder = ensure_environment(recipe, deadline=time.monotonic() + timeout_s, progress=progress)
    return str(contents(str(folder))["digest"])


def image_digests(environments: Iterable[Runtime]) -> dict[str, str]:
    """Return digests by image reference, for the evidence `images`. Raises SandboxUnavailable."""
    recipes = {environment.image.ref: environment.image for environment in environments}
    return {ref: image_digest(recipe) for ref, recipe in sorted(recipes.items())}


def _built(
    recipe: ImageRecipe, names: tuple[str, ...], recorded: str, backend: Backend, progress: Progress
) -> BuiltImage:
    """Build one image and read its contents in a sandbox of the same backend. Raises SandboxError."""
    started = time.monotonic()
    ref = backend.ensure_image(recipe, timeout_s=IMAGE_S, progress=progress)
    sandbox = backend.open(SandboxSpec(image=ref, lifetime_s=LOOK_S), timeout_s=LOOK_S)
    try:
        source = resources.files("envs.register.runtime").joinpath("contents.py").read_text("utf-8")
        result = sandbox.exec(
            ["python3", "-c", source, ENVIRONMENT_FOLDER], timeout_s=LOOK_S, output_limit=1 << 20
        )
    finally:
        sandbox.close()
    if result.exit_code != 0:
        reason = (result.stderr.strip().splitlines() or ["no answer in time"])[-1]
        raise RegisterError(f"{ref} cannot be looked into: {reason[:200]}")
    found = json.loads(result.stdout)
    problems = _differences(recipe, found["distributions"])
    if recorded and found["digest"] != recorded and not problems:
        problems = ["its files are not those that were recorded, though the distributions are"]
    named = tuple(f"{ref} ({', '.join(names)}): {problem}" for problem in problems)
    return BuiltImage(ref, names, found["digest"], recorded, named, time.monotonic() - started)


def _differences(recipe: ImageRecipe, installed: Iterable[str]) -> list[str]:
    """Return one sentence per distribution that is missing, unexpected or of another version."""
    wanted, found = _pins([*recipe.requirements, *recipe.provides]), _pins(installed)
    problems = [f"{pin} is missing" for name, pin in wanted.items() if name not in found]
    problems += [f"{pin} is too much" for name, pin in found.items() if name not in wanted]
    return problems + [
        f"{found[name]} is there instead of {pin}"
        for name, pin in wanted.items()
        if name in found and found[name].partition("==")[2] != pin.partition("==")[2]
    ]


def _pins(lines: Iterable[str]) -> dict[str, str]:
    return {canonical(line.partition("==")[0]): line for line in sorted(lines)}


def _manifest(folder: Path) -> Manifest:
    try:
        settings = tomllib.loads((folder / "taskset.toml").read_text("utf-8"))
        return TypeAdapter(Manifest).validate_python(settings)
    except FileNotFoundError:
        raise RegisterError(f"{folder} is not a task set: it has no taskset.toml") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise RegisterError(f"{folder}/taskset.toml: {place}: {first['msg']}") from error
    except (OSError, ValueError) as error:
        raise RegisterError(f"{folder}/taskset.toml cannot be read: {error}") from error


def _recorded(folder: Path) -> Mapping[str, str]:
    """Return the digests that registration recorded in `lock.json`, or none."""
    try:
        found = json.loads((folder / "lock.json").read_bytes())["evidence"]["images"]
        return {str(ref): str(digest) for ref, digest in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
