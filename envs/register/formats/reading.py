"""The formats that are read: what each is, and how its files become entries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import RegisterError
from .entry import Entry, Reading, RowError
from .harbor.reading import read_harbor
from .r2egym import read_r2egym
from .rows import read_rows
from .swebench import read_swebench
from .swesmith import read_swesmith


@dataclass(frozen=True)
class Format:
    """One format."""

    title: str
    read_row: Callable[[Any], Entry] | None
    """Reads one row of a file; None for a format of folders."""
    written: bool = False
    """Whether task sets can be written in it."""


FORMATS: Mapping[str, Format] = {
    "swebench": Format("SWE-bench rows", read_swebench, written=True),
    "swegym": Format("SWE-Gym rows", read_swebench),
    "swerebench": Format("SWE-rebench and SWE-rebench-V2 rows", read_swebench),
    "swesmith": Format("SWE-smith rows", read_swesmith),
    "r2egym": Format("R2E-Gym rows", read_r2egym),
    "harbor": Format("Harbor task directories", None, written=True),
}


def known_format(name: str) -> Format:
    """Return a format by name. Raises RegisterError."""
    if name not in FORMATS:
        raise RegisterError(f"unknown format {name!r}; choose one of {', '.join(FORMATS)}")
    return FORMATS[name]


def read_entries(format_name: str, file: Path) -> Iterator[Reading]:
    """Yield what each row says, or why it cannot be honoured.

    Raises RegisterError when the format is unknown or the file as a whole cannot be read.
    """
    chosen = known_format(format_name)
    if chosen.read_row is None:
        yield from read_harbor(file)
        return
    for each in read_rows(file):
        named = str(each.row.get("instance_id", "")) if isinstance(each.row, dict) else ""
        try:
            if each.error:
                raise RowError(each.error)
            entry = chosen.read_row(each.row)
            yield Reading(each.place, entry.id, entry)
        except RowError as error:
            yield Reading(each.place, named, error=str(error))
