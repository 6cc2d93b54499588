"""Leftovers of dead runs on every backend and in the cache: found, removed and reported."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .backend import reap_processes
from .base import SandboxError, SandboxUnavailable
from .bubblewrap.cgroups import reap_groups
from .disks.layers import reap_layers
from .images.build import cache_folder, locked

RECORD_S = 3600.0
"""No write of a record of a few bytes takes this long, and no work on a scratch folder of git."""
REGISTRATION_S = 48 * 3600.0
"""No registration takes this long."""
SCRATCH = {
    **dict.fromkeys(("diff", "patch", "git"), RECORD_S),
    **dict.fromkeys(("history", "resolve", "source"), REGISTRATION_S),
}
"""Kinds of scratch folders, `daythree-KIND-…` in the temporary folder; the age at which one is left over."""


@dataclass(frozen=True)
class Swept:
    """The report of `gc`. A line names a removed thing, or one that could not be inspected and the reason."""

    removed: tuple[str, ...]
    failed: tuple[str, ...]


def sweep(*, timeout_s: float) -> Swept:
    """Reap every backend and the cache; failures become lines of the report (`sandboxes.gc`)."""
    removed: list[str] = []
    failed: list[str] = []
    places: list[Callable[[], list[str]]] = [
        lambda: reap_engine(timeout_s),
        reap_processes,
        reap_groups,
        lambda: list(reap_cache(cache_folder())),
        lambda: list(reap_scratch(Path(tempfile.gettempdir()))),
        lambda: reap_layers(cache_folder()),
    ]
    for place in places:
        try:
            removed += place()
        except (SandboxError, OSError) as error:
            failed.append(str(error))
    return Swept(tuple(removed), tuple(failed))


def reap_engine(timeout_s: float) -> list[str]:
    """Remove containers of dead owners. Raises `SandboxUnavailable` where no engine answers."""
    from .docker.backend import DockerBackend

    backend = DockerBackend(timeout_s=timeout_s)
    try:
        return backend.reap()
    finally:
        backend.close()


def reap_cache(cache: Path) -> Iterator[str]:
    """Remove unfinished build folders without a live builder, and records of such builds."""
    for folder in sorted(cache.glob("*/*.building-*")):
        place = folder.with_name(folder.name.partition(".building-")[0])
        try:
            with locked(place.with_name(place.name + ".lock"), time.monotonic()):
                shutil.rmtree(folder)
        except SandboxUnavailable:
            continue  # it is being built
        yield f"unfinished build {folder}"
    # Those named tmp… are of versions before this one.
    for record in sorted([*cache.glob("images/.*.part"), *cache.glob("images/tmp*")]):
        if time.time() - record.stat().st_mtime > RECORD_S:
            record.unlink(missing_ok=True)
            yield f"unfinished record {record}"


def reap_scratch(folder: Path) -> Iterator[str]:
    """Remove our scratch folders that a killed process left, known by their age."""
    for kind, age_s in SCRATCH.items():
        for scratch in sorted(folder.glob(f"daythree-{kind}-*")):
            with suppress(FileNotFoundError):  # it was removed meanwhile
                if scratch.is_dir() and time.time() - scratch.lstat().st_mtime > age_s:
                    shutil.rmtree(scratch)
                    yield f"scratch folder {scratch}"
