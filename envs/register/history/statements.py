"""The instruction of a task from a history: title and body of the pull request or the issue, cleaned.

Text that gives the fix away (links to the fix, commit ids, diffs, lines of the fix) and noise (templates,
trailers) are removed. If few words are left, the failures of the hidden tests are added.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from envs.protection import is_protected
from envs.testing.run import Failure

from .fixes import Fix, added_lines, new_names

MAX_CHARS = 6_000
ENOUGH_WORDS = 30
"""The failures of the hidden tests are added to a title and body with fewer words than this."""
SHOWN_FAILURES = 3
MESSAGE_CHARS = 300
_TELLING = 8
"""Fewest characters of an added line that is searched for in prose."""

_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_FENCE = re.compile(r"^(```|~~~)([^\n]*)\n(.*?)^\1[ \t]*$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[([^\]\n]*)\]\(\s*https?://[^)\s]*\s*\)")
_ADDRESS = re.compile(r"<?https?://[^\s>)\]]+>?")
_COMMIT = re.compile(r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{7,40}\b")
_CLOSES = re.compile(
    r"\b(?:fix(?:e[sd])?|close[sd]?|resolve[sd]?)\b:?\s+"
    r"(?:(?:issue|pr|pull request)\s+)?(?:[\w.-]+/[\w.-]+)?(?:#|gh-|!)\d+[.,;]?",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    r"\s?\((?:[\w.-]+/[\w.-]+)?#(\d+)\)|\s?(?:[\w.-]+/[\w.-]+)?(?:#|\bGH-|(?<=\s)!)(\d+)", re.IGNORECASE
)
_TRAILER = re.compile(
    r"^(?:[A-Z][\w-]*-by|Change-Id|See merge request|Merge (?:branch|pull request)|Approved by|PR-URL"
    r"|git-svn-id|Conflicts)\b.*$",
    re.MULTILINE,
)
_CHECKBOX = re.compile(r"^\s*[-*]\s*\[[ xX]\].*$", re.MULTILINE)


@dataclass(frozen=True)
class Words:
    """A person's text about a change: title and body."""

    title: str
    body: str = ""


def write_statement(words: Words, fix: Fix, failures: Mapping[str, Failure], *, past: Collection[str]) -> str:
    """Return a task's instruction, of at most about `MAX_CHARS` characters.

    `past` holds the keys of the changes that the instruction may mention. The instruction lists the new names
    that the hidden tests use, because a solution cannot guess these names.
    """
    title, body = clean(words.title, fix, past=past), clean(words.body, fix, past=past)
    title = title.splitlines()[0] if title else ""
    parts = [title, body]
    if len(re.findall(r"\w+", f"{title} {body}")) < ENOUGH_WORDS:
        parts.append(_seen(failures))
    names = new_names(fix)
    if names:
        parts.append("Names that its tests use and that do not exist yet: " + ", ".join(names) + ".")
    text = "\n\n".join(part for part in parts if part)
    return text if len(text) <= MAX_CHARS else text[:MAX_CHARS].rsplit("\n", 1)[0] + "\n(cut)"


def clean(text: str, fix: Fix, *, past: Collection[str]) -> str:
    """Remove from a text everything that gives the fix away or does not describe the problem.

    `past` holds the keys of the changes that the text may mention.
    """
    telling = {line for line in added_lines(fix.reference_patch) if len(line) >= _TELLING}
    text = _COMMENT.sub("", text.replace("\r\n", "\n"))
    text = _FENCE.sub(lambda found: "" if _tells(found, telling) else found[0], text)
    text = "\n".join(line for line in text.split("\n") if not _holds(line, telling))
    text = _CHECKBOX.sub("", _TRAILER.sub("", text))
    text = _ADDRESS.sub("", _LINK.sub(r"\1", text))
    text = _COMMIT.sub("", _CLOSES.sub("", text))
    text = _NUMBER.sub(lambda found: found[0] if (found[1] or found[2]) in past else "", text)
    lines = [line.rstrip() for line in text.split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip(" \n-:")


def _tells(fence: re.Match[str], telling: Collection[str]) -> bool:
    """Return whether a block of code is a diff, or holds lines of the fix."""
    language, lines = fence[2].strip().lower(), fence[3].splitlines()
    marked = sum(bool(re.match(r"[+-]|@@", line)) for line in lines)
    return (
        language in ("diff", "patch")
        or (marked >= 2 and 2 * marked >= len(lines))
        or any(_holds(line, telling) for line in lines)
    )


def _holds(line: str, telling: Collection[str]) -> bool:
    return any(part in line for part in telling)


def _seen(failures: Mapping[str, Failure]) -> str:
    """Describe the failures of the hidden tests before the fix, without a line of the tests' code."""
    shown: list[str] = []
    for test, failure in list(failures.items())[:SHOWN_FAILURES]:
        name = test.rpartition("::")[2].partition("[")[0]
        message = " ".join(failure.message.split())[:MESSAGE_CHARS]
        shown.append(f"{name}: {failure.error}" + (f": {message}" if message else ""))
        shown += [f"  {frame.path}:{frame.line} in {frame.function}" for frame in _project_frames(failure)]
    return "\n".join(["What was seen, by tests that are not here:", *shown]) if shown else ""


def _project_frames(failure: Failure) -> Sequence:
    return [frame for frame in failure.frames if not is_protected(frame.path)][-SHOWN_FAILURES:]
