"""A project's past changes as the tool `prs` shows them: none newer than the task's base commit.

Read outside the sandbox. Left out are later changes, changes that mention the fix, and comments written at or
after the task's cutoff. References to omitted changes, and commit ids in prose, are masked.
"""

from __future__ import annotations

import io
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import PurePosixPath

from ..tasksets.lineage import earlier_line, lineage_of
from ..tasksets.taskset import Comment, PullRequest, TaskSet
from ..types import Task

RESULTS = 10
"""Changes listed on one page."""
REASON_CHARS = 600
"""Characters of a change's own text that `blame` shows."""

NOTHING_FOUND = "no pull requests found"
MORE = "({} more; ask for page={}, or narrow by words, path, author or label)"
NO_SUCH = "there is no such pull request"
NO_PAGE = "it has no such page; there are {}"
PAGE = "(page {} of {})"
UNKNOWN = "nothing is known of who last touched this line"
OWN_LINE = "this line is not in the base: it was written in this episode"
NO_LINE = "the file has only {} lines"
TOUCHED = "last touched by"
READ_ON = "(prs with read={!r} shows all of it)"
HEADINGS = ("Labels:", "Discussion:", "Files:", "Diff:", "unknown author")
LATER = "[later change]"
COMMIT = "[commit]"
PHRASES = (
    NOTHING_FOUND, MORE, NO_SUCH, NO_PAGE, PAGE, UNKNOWN, OWN_LINE, NO_LINE, TOUCHED, READ_ON, *HEADINGS,
    LATER, COMMIT,
)  # fmt: skip
"""Every word that the tool says of its own accord; the rest is the project's."""

_WEIGHTS = (4.0, 2.0, 1.0, 0.5)
"""Weights of a word in a title, in names, in prose, in a diff."""
_REFERENCE = re.compile(
    r"(?:#|!|/(?:pulls?|issues|merge_requests)/|\b[Gg][Hh]-|:(?:pr|pull|issue|gh):`"
    r"|\b(?:PR|pr|[Pp]ull [Rr]equest|[Mm]erge [Rr]equest)s? )([0-9]{1,9})\b"
)
_COMMIT_ID = re.compile(r"\b(?:[0-9a-f]{40}|(?=[0-9]*[a-f])(?=[a-f]*[0-9])[0-9a-f]{7,39})\b")
_WORD = re.compile(r"\w+")
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]+")


@dataclass(frozen=True, eq=False)
class View:
    """The past as visible to one task. Cached per task and compared by identity."""

    rows: tuple[PullRequest, ...]
    """Newest first."""
    hidden: frozenset[int]
    """Numbers of changes that do not exist for this task."""
    newest: int
    """The highest number that exists for this task."""
    cutoff: str

    def find(self, key: str) -> PullRequest | None:
        """Return a change by its key, in any spelling: 12, #12, !12, c7."""
        wanted = key.strip().lstrip("#!").lower()
        return next((row for row in self.rows if row.key == wanted), None)

    def prose(self, text: str) -> str:
        """Mask prose: commit ids, and numbers that do not exist yet."""
        return _COMMIT_ID.sub(COMMIT, _REFERENCE.sub(self._reference(self.newest), text))

    def code(self, text: str) -> str:
        """Mask a diff: only numbers known to be hidden, since much in code looks like an id."""
        return _REFERENCE.sub(self._reference(None), text)

    def _reference(self, newest: int | None) -> Callable[[re.Match[str]], str]:
        def masked(found: re.Match[str]) -> str:
            number = int(found[1])
            unborn = newest is not None and number > newest
            return LATER if unborn or number in self.hidden else found[0]

        return masked


@lru_cache(maxsize=256)
def view(taskset: TaskSet, task: Task) -> View:
    """Return the past as visible to a task."""
    past, later = taskset.prs[task.first_pr : task.past], taskset.prs[task.past :]
    kept = [row for row in past if row.key not in task.withheld]
    hidden = {*task.withheld, *(row.key for row in later)}
    return View(
        rows=tuple(reversed(kept)),
        hidden=frozenset(int(key) for key in hidden if key.isdigit()),
        newest=max((int(row.key) for row in kept if row.key.isdigit()), default=0),
        cutoff=task.cutoff,
    )


def search(
    past: View, words: str, *, path: str = "", author: str = "", label: str = "", page: int = 1
) -> str:
    """List changes that contain words, best first; without words, newest first."""
    rows = [
        row
        for row in past.rows
        if (not path or _touches(row, path))
        and author.lower() in row.author.lower()
        and (not label or label.lower() in (name.lower() for name in row.labels))
    ]
    if not words.strip():
        return _listed(past, rows, page)
    wanted = _words(words)
    held = [_held(past, row, wanted) for row in rows]
    rarity = Counter(word for weights in held for word in weights)
    idf = {word: math.log(1 + len(rows) / count) for word, count in rarity.items()}
    scores = [sum(idf[word] * weight for word, weight in weights.items()) for weights in held]
    named = past.find(words)
    best = sorted(zip(scores, rows, strict=True), key=lambda pair: (pair[1] is not named, -pair[0]))
    return _listed(past, [row for score, row in best if score or row is named], page)


def read(past: View, key: str, *, page: int = 1, page_chars: int) -> str:
    """Show one change in full, by pages: title and body, discussion, files, diff."""
    row = past.find(key)
    if row is None:
        return NO_SUCH
    pages = _pages(past, row, page_chars)
    if page > len(pages):
        return NO_PAGE.format(len(pages))
    shown = pages[page - 1].rstrip("\n")
    return shown if len(pages) == 1 else f"{shown}\n{PAGE.format(page, len(pages))}"


def recent(past: View, path: str, *, page: int = 1) -> str:
    """List the changes that touched a file or a folder, newest first."""
    return _listed(past, [row for row in past.rows if _touches(row, path)], page)


def blame(taskset: TaskSet, task: Task, path: str, line: int, now: str) -> str:
    """Name the change that last touched a line of the current file (`now` is its text), and the reason."""
    lines = _lines(now)
    if line > len(lines):
        return NO_LINE.format(len(lines))
    change = _last_change(taskset, task, path, line, lines)
    if isinstance(change, str):
        return change
    past = view(taskset, task)
    row = past.find(taskset.prs[change].key) if change < task.past else None
    if row is None:
        return UNKNOWN
    reason = past.prose(row.body).strip()
    reason = reason if len(reason) <= REASON_CHARS else reason[:REASON_CHARS].rsplit(None, 1)[0] + " ..."
    parts = [f"{path}:{line} {TOUCHED} {_head(past, row)}", reason, READ_ON.format(row.key)]
    return "\n".join(part for part in parts if part)


def _last_change(taskset: TaskSet, task: Task, path: str, line: int, now: Sequence[str]) -> int | str:
    """Return the index of the change, or the message to show where there is none."""
    base = taskset.base_tree(task).get(path)
    if base is None or earlier_line(_lines(_text(base.data)), now, line) is None:
        return OWN_LINE
    # The base may lack tests that its commit had; then the stored tree is the nearest that is known.
    for file in (base, taskset.source_tree(task).get(path)):
        known = lineage_of(taskset, path, file, task.past) if file else None
        if file and known:
            at = earlier_line(_lines(_text(file.data)), now, line)
            change = known.change_of(at) if at else None
            return UNKNOWN if change is None else change
    return UNKNOWN


def _listed(past: View, rows: Sequence[PullRequest], page: int) -> str:
    shown = rows[(page - 1) * RESULTS : page * RESULTS]
    lines = [_head(past, row) for row in shown]
    left = len(rows) - page * RESULTS
    if left > 0:
        lines.append(MORE.format(left, page + 1))
    return "\n".join(lines) or NOTHING_FOUND


def _head(past: View, row: PullRequest) -> str:
    sign = "#" if row.key.isdigit() else ""
    author = row.author or HEADINGS[-1]
    return f"{sign}{row.key} {past.prose(row.title)} ({row.merged_at[:10]}, {author})"


def _whole(past: View, row: PullRequest) -> str:
    labels, discussion, files, diff, _ = HEADINGS
    comments = [f"{note.author} ({note.at[:10]}): {note.text}" for note in _comments(past, row)]
    parts = [_head(past, row)]
    parts += [f"{labels} {', '.join(row.labels)}"] if row.labels else []
    parts += [past.prose(row.body)] if row.body else []
    parts += [past.prose("\n\n".join([discussion, *comments]))] if comments else []
    parts += ["\n".join([files, *row.files])] if row.files else []
    parts += [f"{diff}\n{past.code(row.diff)}"] if row.diff else []
    return "\n\n".join(parts)


@lru_cache(maxsize=16)
def _pages(past: View, row: PullRequest, size: int) -> list[str]:
    """Cut a change into pages at line ends; a line longer than a page is cut too."""
    pages = [""]
    for line in _lines(_whole(past, row)):
        for part in (line[at : at + size] for at in range(0, len(line), size)):
            if pages[-1] and len(pages[-1]) + len(part) > size:
                pages.append("")
            pages[-1] += part
    return pages


def _touches(row: PullRequest, path: str) -> bool:
    """Whether a change touched a file, a folder, or files that match a pattern."""
    wanted = path.strip().removeprefix("./").rstrip("/")
    if wanted in ("", ".") or wanted in _places(row.files):
        return True
    return any(sign in wanted for sign in "*?[") and any(fnmatchcase(file, wanted) for file in row.files)


@lru_cache(maxsize=20_000)
def _places(files: tuple[str, ...]) -> frozenset[str]:
    """Return files, their folders, and their bare names."""
    folders = {str(folder) for file in files for folder in PurePosixPath(file).parents}
    return frozenset({*files, *folders, *(file.rpartition("/")[2] for file in files)})


def _comments(past: View, row: PullRequest) -> Iterator[Comment]:
    return (note for note in row.discussion if not past.cutoff or note.at < past.cutoff)


def _held(past: View, row: PullRequest, wanted: frozenset[str]) -> dict[str, float]:
    """Return the words found in a change, each weighted by the best field it occurs in."""
    fields = [
        _words(row.title),
        _words("\n".join([row.author, *row.labels, *row.files])),
        _words(row.body).union(*(_words(note.text) for note in _comments(past, row))),
        _words(row.diff),
    ]
    found: dict[str, float] = {}
    for words, weight in zip(reversed(fields), reversed(_WEIGHTS), strict=True):
        found |= dict.fromkeys(words & wanted, weight)
    return found


@lru_cache(maxsize=50_000)
def _words(text: str) -> frozenset[str]:
    """Return a text's words and their parts. Ids and references are excluded: they are no search terms."""
    seen = set(_WORD.findall(_COMMIT_ID.sub(" ", _REFERENCE.sub(" ", text))))
    return frozenset(part for word in seen for part in (word.lower(), *_parts(word)))


def _parts(word: str) -> Iterable[str]:
    """Split an identifier: `retryLimit`, `retry_limit` and `RETRY_LIMIT` alike."""
    return (part.lower() for part in _PART.findall(word) if len(part) > 1)


def _lines(text: str) -> list[str]:
    """Split at newlines only, ends kept, as git counts lines."""
    return [*io.StringIO(text, newline="\n")]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
