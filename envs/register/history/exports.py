"""Pull requests and issues of a forge, read from files in the shapes of GitHub's REST API.

A file holds objects from the API's lists of pull requests, issues, issue comments and review comments, in any
mix: one array, several concatenated arrays (the output of paging), or one object per line. An entry that
cannot be read is skipped and named in `Exports.notes`.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from envs.tasksets.taskset import Comment

from ..errors import RegisterError

_SUFFIXES = (".json", ".jsonl", ".ndjson")
_NOTES_PER_FILE = 20


@dataclass(frozen=True)
class Thread:
    """Title, body and comments of a pull request or an issue."""

    number: int
    title: str
    body: str
    author: str
    labels: tuple[str, ...]
    opened_at: str
    """ISO 8601, UTC."""
    merge_commit: str = ""
    """Id of the commit that merged the pull request; empty for an issue."""


@dataclass(frozen=True)
class Exports:
    """The content of all export files, by number. On GitHub, issues and pull requests share their numbers."""

    pulls: Mapping[int, Thread] = field(default_factory=dict)
    issues: Mapping[int, Thread] = field(default_factory=dict)
    comments: Mapping[int, Sequence[Comment]] = field(default_factory=dict)
    """Number of the pull request or issue to the comments, oldest first."""
    notes: tuple[str, ...] = ()
    """Entries that could not be read, each with its file, place and reason."""


@dataclass(frozen=True)
class _User:
    login: str = ""


@dataclass(frozen=True)
class _Label:
    name: str = ""


@dataclass(frozen=True)
class _ThreadRow:
    number: int
    title: str
    created_at: str
    body: str | None = None
    user: _User | None = None
    labels: tuple[_Label, ...] = ()
    merged_at: str | None = None
    merge_commit_sha: str | None = None


@dataclass(frozen=True)
class _CommentRow:
    created_at: str
    body: str | None = None
    updated_at: str | None = None
    user: _User | None = None
    issue_url: str = ""
    pull_request_url: str = ""
    path: str | None = None
    """The file that a review comment refers to."""


_THREAD, _COMMENT = TypeAdapter(_ThreadRow), TypeAdapter(_CommentRow)


def read_exports(paths: Sequence[Path]) -> Exports:
    """Read export files, and every JSON file below folders.

    Raises RegisterError for a path that does not exist and for a file that cannot be read.
    """
    pulls: dict[int, Thread] = {}
    issues: dict[int, Thread] = {}
    comments: defaultdict[int, set[Comment]] = defaultdict(set)
    notes: list[str] = []
    for file in _files(paths):
        troubles: list[str] = []
        for place, entry in _entries(_content(file), troubles):
            try:
                _take(entry, pulls, issues, comments)
            except (ValueError, KeyError) as error:
                troubles.append(f"{place}: {_sentence(error)}")
        shown = troubles[:_NOTES_PER_FILE]
        notes += [f"{file.name}, {trouble}" for trouble in shown]
        if len(troubles) > len(shown):
            notes.append(f"{file.name}: {len(troubles) - len(shown)} more entries could not be read")
    ordered = {
        number: sorted(thread, key=lambda comment: (comment.at, comment.text))
        for number, thread in comments.items()
    }
    return Exports(pulls, issues, ordered, tuple(notes))


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.suffix in _SUFFIXES and file.is_file())
        elif path.is_file():
            yield path
        else:
            raise RegisterError(f"there is no file {path}; give an export of pull requests, or leave it out")


def _content(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig", "replace")
    except OSError as error:
        raise RegisterError(f"{file} cannot be read: {error.strerror or error}") from error


def _entries(text: str, troubles: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield the place and value of every entry; after text that is not JSON, continue on the next line.

    Reports on such text are appended to `troubles`.
    """
    decoder, at = json.JSONDecoder(), 0
    while True:
        at = _next(text, at)
        if at >= len(text):
            return
        line = text.count("\n", 0, at) + 1
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            troubles.append(f"line {line}: not JSON ({error})")
            end = text.find("\n", at)
            at = len(text) if end < 0 or text[at] == "[" else end
            continue
        if isinstance(value, list):
            pages = all(isinstance(page, list) for page in value)  # the output of `gh api --paginate --slurp`
            rows = [row for page in value for row in page] if pages else value
            yield from ((f"line {line}, entry {number}", row) for number, row in enumerate(rows, start=1))
        else:
            yield f"line {line}", value


def _next(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n,":
        at += 1
    return at


def _take(
    entry: Any,
    pulls: dict[int, Thread],
    issues: dict[int, Thread],
    comments: defaultdict[int, set[Comment]],
) -> None:
    """Store one entry under its number. Raises ValueError, KeyError."""
    if not isinstance(entry, dict):
        raise ValueError("not an object")
    if "number" in entry:
        thread = _thread(_THREAD.validate_python(entry))
        if any(key in entry for key in ("merge_commit_sha", "merged_at", "head")):
            pulls[thread.number] = thread
        elif "pull_request" in entry:  # the list of issues has pull requests too, with fewer fields
            pulls.setdefault(thread.number, thread)
        else:
            issues[thread.number] = thread
    elif "issue_url" in entry or "pull_request_url" in entry:
        row = _COMMENT.validate_python(entry)
        number = re.search(r"/(?:issues|pulls)/(\d+)$", row.issue_url or row.pull_request_url)
        if number is None:
            raise ValueError("its issue_url names no number")
        if row.body and row.body.strip():
            comments[int(number[1])].add(_comment(row))
    else:
        raise ValueError("neither a pull request, nor an issue, nor a comment")


def _thread(row: _ThreadRow) -> Thread:
    return Thread(
        number=row.number,
        title=_clean(row.title),
        body=_clean(row.body or ""),
        author=_clean(row.user.login if row.user else ""),
        labels=tuple(_clean(label.name) for label in row.labels),
        opened_at=_utc(row.created_at),
        merge_commit=row.merge_commit_sha or "",
    )


def _comment(row: _CommentRow) -> Comment:
    # An edited comment counts from its last edit: the new text may mention facts of that later time.
    at = max(_utc(row.created_at), _utc(row.updated_at or row.created_at))
    about = f"(on {row.path}) " if row.path else ""
    return Comment(_clean(row.user.login if row.user else ""), at, _clean(about + (row.body or "")))


def _utc(text: str) -> str:
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _clean(text: str) -> str:
    """Return text that can be encoded as UTF-8, with line feeds as newlines."""
    return text.replace("\r\n", "\n").encode("utf-8", "replace").decode().strip()


def _sentence(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return str(error)
