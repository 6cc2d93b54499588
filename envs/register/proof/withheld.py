"""Find the past changes that give a fix away; the `prs` tool withholds them.

A sign of the fix is one of the following, unless the base tree holds it already (in a file or in a path):

- a word that the fix adds: an identifier of four characters or more, or of two or more with a digit or an
  underscore; a number of three digits or more, or with a decimal point. Years do not count. Case counts
  where the base knows the word in another case only;
- a line that the fix adds, from eight characters on, white space aside;
- the fix's commit id, from seven characters on, and a reference to its number.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from envs.tasksets.taskset import PullRequest
from envs.tasksets.trees import Tree, TreeFile

MIN_LINE = 8
_TOKEN = re.compile(r"[^\W\d]\w*|\d+(?:\.\d+)+\w*|\d\w*")
_YEAR = re.compile(r"(?:19|20)\d\d")
_POSITION = re.compile(r"^@@ -[\d,]+ \+[\d,]+ @@", re.MULTILINE)
_COMMIT_ID = re.compile(r"\b[0-9a-f]{7,64}\b")
_REFERENCE = re.compile(r"(?:[#!/]|\b[Gg][Hh]-|:(?:pr|pull|issue|gh):`)(\d+)\b")
_OF_A_DIFF = "+- \t"


@dataclass(frozen=True)
class Signs:
    """Words, lines, ids and numbers that give a fix away."""

    words: frozenset[str]
    """Words that the base tree lacks, in this spelling."""
    folded: frozenset[str]
    """Words, in lower case, that the base tree lacks in any case."""
    lines: frozenset[str]
    """Lines that the base tree lacks, with single spaces as white space."""
    commit: str = ""
    number: int | None = None

    def found_in(self, text: str) -> list[str]:
        """Describe the signs that a text holds; the text is prose, optionally followed by a diff."""
        held = _content(text)
        found = [
            f"the word {word}" for word in sorted((held.words & self.words) | (held.folded & self.folded))
        ]
        found += [
            f"the line {line}" for line in sorted(self.lines) if line in held.lines or line in held.prose
        ]
        if self.commit and any(self.commit.startswith(prefix) for prefix in held.ids):
            found.append(f"the commit {self.commit[:7]}")
        if self.number in held.numbers:
            found.append(f"the number {self.number}")
        return found


@dataclass(frozen=True)
class _Content:
    """The words, lines and ids of a text."""

    words: frozenset[str]
    folded: frozenset[str]
    lines: frozenset[str]
    prose: str
    """The text before the diff, with single spaces as white space."""
    ids: frozenset[str]
    numbers: frozenset[int]


def signs(base: Tree, reference_patch: str, *, commit: str = "", number: int | None = None) -> Signs:
    """Collect the words, lines, ids and numbers that a fix adds and the base tree lacks."""
    added, names = list[str](), list[str]()
    for line in reference_patch.splitlines():
        if line.startswith("+++ "):
            names.append(line[4:].removeprefix("b/"))
        elif line.startswith("+"):
            added.append(line[1:])
    words = _words("\n".join([*added, *names]))
    known = [_file_content(entry) for entry in base.values()]
    paths = _words("\n".join(base))
    new = words.difference(paths, *(sets[0] for sets in known))
    lowered = frozenset(word.lower() for word in words)
    folded = lowered.difference((word.lower() for word in paths), *(sets[1] for sets in known))
    lines = frozenset(line for line in map(_plain, added) if len(line) >= MIN_LINE)
    return Signs(new, folded, lines.difference(*(sets[2] for sets in known)), commit, number)


def withheld(
    prs: Sequence[PullRequest], base: Tree, reference_patch: str, commit: str, *, number: int | None = None
) -> tuple[str, ...]:
    """Return the keys of the changes that show a sign of the fix in any text of the `prs` tool.

    `prs` are the changes before the base; the tool never shows later changes. `commit` (or an empty string)
    and `number` (or None) identify the fix itself.
    """
    wanted = signs(base, reference_patch, commit=commit, number=number)
    return tuple(row.key for row in prs if speaks_of(row, wanted))


def speaks_of(row: PullRequest, wanted: Signs) -> bool:
    """Return whether a change holds a sign of the fix."""
    shown = "\n".join(
        [row.key, row.title, row.author, *row.labels, row.body]
        + [f"{comment.author}\n{comment.text}" for comment in row.discussion]
        + [*row.files]
    )
    return bool(wanted.found_in(shown) or wanted.found_in(row.diff))


def fix_words(reference_patch: str) -> frozenset[str]:
    """Return every word that a fix's added lines hold, new or not."""
    return _words("\n".join(line[1:] for line in reference_patch.splitlines() if line.startswith("+")))


@lru_cache(maxsize=50_000)
def _content(text: str) -> _Content:
    words = _words(_POSITION.sub("", text))
    lines = (_plain(line.lstrip(_OF_A_DIFF)) for line in text.splitlines())
    return _Content(
        words=words,
        folded=frozenset(word.lower() for word in words),
        lines=frozenset(line for line in lines if len(line) >= MIN_LINE),
        prose=_plain(text.partition("diff --git ")[0]),
        ids=frozenset(_COMMIT_ID.findall(text)),
        numbers=frozenset(int(number) for number in _REFERENCE.findall(text)),
    )


@lru_cache(maxsize=20_000)
def _file_content(entry: TreeFile) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    text = entry.data.decode("utf-8", "replace")
    words = _words(text)
    lines = frozenset(line for line in map(_plain, text.splitlines()) if len(line) >= MIN_LINE)
    return words, frozenset(word.lower() for word in words), lines


def _words(text: str) -> frozenset[str]:
    return frozenset(word for word in set(_TOKEN.findall(text)) if _counts(word))


def _counts(word: str) -> bool:
    if word.isdigit():
        return len(word) >= 3 and not _YEAR.fullmatch(word)
    return len(word) >= 4 or (len(word) >= 2 and any(letter.isdigit() or letter == "_" for letter in word))


def _plain(line: str) -> str:
    return " ".join(line.split())
