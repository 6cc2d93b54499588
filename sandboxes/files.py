"""Atomic file writes: a file appears whole or not at all, even when this process is killed meanwhile."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_whole(path: Path, data: bytes | str, *, durable: bool = True) -> Path:
    """Write a temporary file beside `path`, then rename it to `path`. Text is UTF-8. Makes missing folders.

    A power failure may lose a file that is not `durable`, which is for caches: fsync takes milliseconds.
    Raises OSError; `path` is then unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_native_id()}.part")
    try:
        with beside.open("wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def write_json(path: Path, value: Mapping[str, Any]) -> Path:
    """Write an indented JSON file atomically."""
    return write_whole(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
