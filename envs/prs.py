"""Reading a project's past changes, up to a task's cutoff.

Served from outside the sandbox. A change merged at or after the cutoff does not exist here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from .tasksets import PullRequest

MAX_RESULTS = 10
DIFF_CHARS = 4_000


def visible(prs: Sequence[PullRequest], cutoff: str) -> list[PullRequest]:
    """Return the changes merged before the cutoff, newest first."""
    shown = [pr for pr in prs if not cutoff or pr.merged_at < cutoff]
    return sorted(shown, key=lambda pr: (pr.merged_at, pr.number), reverse=True)


def search_prs(prs: Sequence[PullRequest], query: str, *, cutoff: str) -> str:
    """List changes that hold any word of the query, those with more of them first."""
    words = set(re.findall(r"\w+", query.lower()))
    scored = [(len(words & _words(pr)), pr) for pr in visible(prs, cutoff)]
    found = [pr for score, pr in sorted(scored, key=lambda row: -row[0]) if score or not words]
    lines = [f"#{pr.number} {pr.title} ({pr.merged_at[:10]})" for pr in found[:MAX_RESULTS]]
    return "\n".join(lines) or "no pull requests found"


def read_pr(prs: Sequence[PullRequest], number: int, *, cutoff: str) -> str:
    """Return one change in full, its diff cut to a limit."""
    for pr in visible(prs, cutoff):
        if pr.number == number:
            diff = pr.diff if len(pr.diff) <= DIFF_CHARS else pr.diff[:DIFF_CHARS] + "\n(diff cut)"
            parts = [
                f"#{pr.number} {pr.title} ({pr.merged_at[:10]}, {pr.author or 'unknown author'})",
                pr.body,
            ]
            parts += [*pr.discussion, "Files: " + ", ".join(pr.files) if pr.files else "", diff]
            return "\n\n".join(part for part in parts if part)
    return f"there is no pull request #{number}"


def _words(pr: PullRequest) -> set[str]:
    text = " ".join([pr.title, pr.body, pr.author, *pr.labels, *pr.files, *pr.discussion])
    return set(re.findall(r"\w+", text.lower()))
