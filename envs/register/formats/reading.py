"""Read other systems' files: the table of formats, files to rows, and rows to entries.

Rows are JSON Lines, JSON, or parquet if pyarrow is installed. An unreadable row is yielded with its place and
the reason, so that a bad line in a file of thousands does not stop the import.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import RegisterError
from .entry import Entry, Reading, RowError
from .harbor.reading import read_harbor
from .r2egym import read_r2egym
from .swebench import read_swebench
from .swesmith import read_swesmith


@dataclass(frozen=True)
class Format:
    """An import format, and whether exports support the format too."""

    title: str
    read_row: Callable[[Any], Entry] | None
    """Reads one row of a file; None for a format of folders."""
    written: bool = False
    """Whether task sets can be exported in this format."""


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
    """Yield the entry of each row, or the reason why the row cannot become a task.

    Raises RegisterError when the format is unknown or the file as a whole cannot be read.
    """
    chosen = known_format(format_name)
    if chosen.read_row is None:
        yield from read_harbor(file)
        return
    for line in read_rows(file):
        named = str(line.row.get("instance_id", "")) if isinstance(line.row, dict) else ""
        try:
            if line.error:
                raise RowError(line.error)
            entry = chosen.read_row(line.row)
            yield Reading(line.place, entry.id, entry)
        except RowError as error:
            yield Reading(line.place, named, error=str(error))


@dataclass(frozen=True)
class FileRow:
    """One row of a file."""

    place: str
    """For messages: `rows.jsonl, line 517`."""
    row: Any = None
    error: str = ""
    """Why the row is unreadable; `row` is then None."""


def read_rows(file: Path) -> Iterator[FileRow]:
    """Read a file's rows in order. Raises RegisterError when the file as a whole cannot be read."""
    if not file.is_file():
        raise RegisterError(f"there is no file {file}")
    if file.suffix == ".parquet":
        return _parquet(file)
    if file.suffix in (".jsonl", ".ndjson"):
        return _lines(file)
    if file.suffix == ".json":
        return _document(file)
    raise RegisterError(f"{file} is neither .jsonl, .json nor .parquet; convert it to one of them")


def _lines(file: Path) -> Iterator[FileRow]:
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _parsed(line, f"{file.name}, line {number}")
    except OSError as error:
        raise RegisterError(f"{file} cannot be read: {error.strerror or error}") from error


def _parsed(line: bytes, place: str) -> FileRow:
    try:
        return FileRow(place, json.loads(line.decode("utf-8-sig")))
    except UnicodeDecodeError as error:
        return FileRow(place, error=f"the line: is not UTF-8 (byte {error.start})")
    except (ValueError, RecursionError) as error:
        return FileRow(place, error=f"the line: is not JSON ({error})")


def _document(file: Path) -> Iterator[FileRow]:
    """Read a JSON document: a list of rows, one row, or rows by id. A file of JSON Lines works too."""
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise RegisterError(f"{file} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        rows = list(_lines(file))
        if len(rows) > 1 and any(not row.error for row in rows):
            yield from rows
            return
        raise RegisterError(f"{file} is not JSON: {error}") from error
    if isinstance(content, dict) and content and all(isinstance(row, dict) for row in content.values()):
        content = list(content.values())
    rows = content if isinstance(content, list) else [content]
    for number, row in enumerate(rows, start=1):
        yield FileRow(f"{file.name}, row {number}", row)


def _parquet(file: Path) -> Iterator[FileRow]:
    try:
        from pyarrow import ArrowException  # pyright: ignore[reportMissingImports]
        from pyarrow.parquet import ParquetFile  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise RegisterError(f"{file} is parquet, and pyarrow is not installed; convert it to JSONL") from None
    try:
        number = 0
        for batch in ParquetFile(file).iter_batches(batch_size=256):
            for row in batch.to_pylist():
                number += 1
                yield FileRow(f"{file.name}, row {number}", row)
    except (ArrowException, OSError) as error:
        raise RegisterError(f"{file} cannot be read: {error}") from error
