"""Leftovers of dead runs on every backend and in the cache: found, removed and reported."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .backend import reap_processes
from .base import SandboxError, SandboxUnavailable
from .bubblewrap.cgroups import reap_groups
from .disks.layers import reap_layers
from .images.build import cache_folder, locked

RECORD_S = 3600.0
"""No write of a record of a few bytes takes this long."""


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
