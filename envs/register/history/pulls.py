"""Past changes as rows for the `prs` tool, made from the git history and from a forge's export."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from envs.tasksets.taskset import Comment, PullRequest

from .exports import Exports, Thread, read_exports
from .mainline import Change, History
from .patches import text_section

DIFF_CHARS = 64 * 1024
"""The longest diff of a change that is kept."""
BODY_CHARS = 16 * 1024
"""The longest body or comment that is kept."""
_CLOSES = re.compile(
    r"\b(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?):?\s+"
    r"(?:[\w.-]+/[\w.-]+(?=#))?(?:#|https?://\S+/issues/|gh-)(\d+)\b",
    re.IGNORECASE,
)


def past_changes(history: History, exports: Exports | Sequence[Path] = ()) -> list[PullRequest]:
    """Return one row for each of `history.changes`, in their order.

    A row's key is the number of the pull request. If several changes claim the same number, the change that
    merged the pull request gets the number. Every other change has the key `c<N>`, where N is its position in
    the history, from 1. Raises RegisterError when the history or an export cannot be read.
    """
    known = exports if isinstance(exports, Exports) else read_exports(exports)
    pulls = _matched(history.changes, known)
    keys = _keys(history.changes, pulls)
    diffs = _diffs(history)
    return [
        _row(change, keys[index], pulls[index], diffs.get(change.commit, ""), known)
        for index, change in enumerate(history.changes)
    ]


def issues_of(history: History, exports: Exports) -> list[tuple[Thread, ...]]:
    """Return, for each of `history.changes`, the exported issues that the change closes.

    An issue is closed by the message of the commit or by the text of its pull request.
    """
    pulls = _matched(history.changes, exports)
    return [_closed(change, pull, exports) for change, pull in zip(history.changes, pulls, strict=True)]


def _matched(changes: Sequence[Change], exports: Exports) -> list[Thread | None]:
    """Find the pull request of each change: by merge commit, else by the number in the commit message."""
    by_commit = {pull.merge_commit: pull for pull in exports.pulls.values() if pull.merge_commit}
    return [by_commit.get(change.commit) or exports.pulls.get(change.number or 0) for change in changes]


def _keys(changes: Sequence[Change], pulls: Sequence[Thread | None]) -> list[str]:
    owners: dict[int, tuple[bool, bool, int]] = {}
    numbers = [pull.number if pull else change.number for change, pull in zip(changes, pulls, strict=True)]
    for index, (change, number) in enumerate(zip(changes, numbers, strict=True)):
        if number is not None:
            pull = pulls[index]
            # The commit that the export names goes first, then a merge, then the earliest change.
            claim = (pull is not None and pull.merge_commit == change.commit, change.kind == "merge", -index)
            owners[number] = max(claim, owners.get(number, claim))
    return [
        str(number) if number is not None and owners[number][2] == -index else f"c{index + 1}"
        for index, number in enumerate(numbers)
    ]


def _diffs(history: History) -> dict[str, str]:
    """Read the diffs of all changes in one walk; return each diff, cut to a limit, by commit id."""
    walk = groupby(history.patches("--no-renames"), key=itemgetter(0))
    return {
        commit: _bounded(filter(None, (text_section(section) for _, section in parts)))
        for commit, parts in walk
    }


def _bounded(parts: Iterable[str]) -> str:
    """Join a diff's files up to a limit, at whole lines, with a note on the omitted rest."""
    kept, room, hidden = list[str](), DIFF_CHARS, 0
    for part in parts:
        head = part if len(part) <= room else part[: part.rfind("\n", 0, room) + 1]
        kept.append(head)
        room = room - len(head) if len(head) == len(part) else 0
        hidden += part.count("\n") - head.count("\n")
    if hidden:
        kept.append(f"(cut: {hidden} more lines of this diff are not kept)\n")
    return "".join(kept)


def _row(change: Change, key: str, pull: Thread | None, diff: str, exports: Exports) -> PullRequest:
    own = PullRequest(
        key=key,
        title=change.title,
        merged_at=change.merged_at,
        body=_cut(change.body),
        author=change.author,
        files=change.files,
        diff=diff,
    )
    comments: list[Comment] = []
    for issue in _closed(change, pull, exports):
        opening = f"Issue #{issue.number}: {issue.title}\n\n{issue.body}".strip()
        comments += [Comment(issue.author, issue.opened_at, opening), *exports.comments.get(issue.number, ())]
    if pull is None:
        return replace(own, discussion=_discussion(comments))
    comments += exports.comments.get(pull.number, ())
    return replace(
        own,
        title=pull.title or own.title,
        body=_cut(pull.body or own.body),
        author=pull.author or own.author,
        labels=pull.labels,
        discussion=_discussion(comments),
    )


def _closed(change: Change, pull: Thread | None, exports: Exports) -> tuple[Thread, ...]:
    texts = [change.title, change.body, *([pull.title, pull.body] if pull else [])]
    numbers = {int(number): None for text in texts for number in _CLOSES.findall(text)}
    return tuple(exports.issues[number] for number in numbers if number in exports.issues)


def _discussion(comments: Sequence[Comment]) -> tuple[Comment, ...]:
    return tuple(
        replace(comment, text=_cut(comment.text))
        for comment in sorted(comments, key=lambda comment: (comment.at, comment.text))
    )


def _cut(text: str) -> str:
    return text if len(text) <= BODY_CHARS else text[:BODY_CHARS] + "\n(cut: it goes on)"
