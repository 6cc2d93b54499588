"""Checkpoints that are whole or not there.

A checkpoint is a folder `step-000012`. It is written beside as a hidden folder and renamed once every byte
is on disk; the newest is found by looking, so no pointer file can be wrong. What a writer that died left
behind is removed by the next one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STATE = "state.json"
_PREFIX, _PARTIAL = "step-", ".partial-"


class CheckpointError(Exception):
    """A checkpoint cannot be read. One sentence."""


@contextmanager
def writing(root: Path, step: int, state: dict[str, Any], *, keep: int) -> Iterator[Path]:
    """Give a folder to write into; when the block ends well it becomes the checkpoint of `step`.

    `state` is the loop's own part (plain JSON values). The newest `keep` checkpoints stay.
    """
    root.mkdir(parents=True, exist_ok=True)
    for stale in root.glob(f"{_PARTIAL}*"):
        shutil.rmtree(stale)
    partial = root / f"{_PARTIAL}{step:06d}"
    partial.mkdir()
    try:
        yield partial
        (partial / STATE).write_text(json.dumps({"step": step, **state}, indent=1), encoding="utf-8")
        _sync(partial)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    final = root / f"{_PREFIX}{step:06d}"
    if final.exists():  # a resumed run reached the same step again
        final.rename(root / f"{_PARTIAL}replaced")
    partial.rename(final)
    _sync_folder(root)
    for old in [*_all(root)[:-keep], *root.glob(f"{_PARTIAL}*")]:
        shutil.rmtree(old)


def latest(root: Path) -> Path | None:
    """Find the newest checkpoint."""
    found = _all(root)
    return found[-1] if found else None


def read_state(folder: Path) -> dict[str, Any]:
    """Read the loop's part of a checkpoint. Raises `CheckpointError`."""
    try:
        return json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{folder}: the checkpoint cannot be read ({error}); remove it to use the one before"
        ) from None


def _all(root: Path) -> list[Path]:
    """Whole checkpoints, oldest first."""
    found = [path for path in root.glob(f"{_PREFIX}*") if path.name.removeprefix(_PREFIX).isdecimal()]
    return sorted(found, key=lambda path: int(path.name.removeprefix(_PREFIX)))


def _sync(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        elif path.is_dir():
            _sync_folder(path)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
