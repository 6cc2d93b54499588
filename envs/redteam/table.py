"""The red team's findings as tables: for a terminal, and in markdown between two marks of a document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from sandboxes.files import write_whole

from .cheat import FAMILIES
from .suite import CHEATS, HONEST
from .tries import Findings, Try

START = "<!-- red team: written by `daythree redteam --markdown` -->"
END = "<!-- red team: end -->"


class NoMarks(Exception):
    """The document lacks the two marks. Takes one sentence."""


def rows(tries: Sequence[Try]) -> list[list[str]]:
    """Return one row per cheat or honest solution, over all tasks: name, family, description, most frequent
    defence, result.
    """
    tells = {cheat.name: cheat.tries for cheat in CHEATS} | {honest.name: honest.does for honest in HONEST}
    shown = []
    for name, group in grouped(tries, lambda attempt: attempt.name).items():
        tells.setdefault(name, "does what was asked, as an agent")
        shown.append([name, group[0].family, tells[name], stopped_by(group), result(group)])
    return shown


def result(group: Sequence[Try]) -> str:
    """Format the number of passes: `0 of 13`."""
    applied = [attempt for attempt in group if attempt.result != "does not apply"]
    if not applied:
        return "does not apply"
    counts = Counter(attempt.result for attempt in applied)
    text = f"{counts['scores 1']} of {len(applied)}"
    extra = [f"{counts[kind]} {kind}" for kind in ("got hold of it", "not scored") if counts[kind]]
    return ", ".join([text, *extra])


def stopped_by(group: Sequence[Try]) -> str:
    """Return the checks that stopped the cheat, most frequent first, or the reason where the cheat never
    applied.
    """
    layers = Counter(attempt.layer for attempt in group if attempt.result == "scores 0" and attempt.layer)
    if layers:
        return ", ".join(layer for layer, _ in layers.most_common(2))
    if all(attempt.result == "does not apply" for attempt in group):
        return group[0].evidence
    return "" if group[0].family == "honest" else "**nothing**"


def per_task(findings: Findings) -> list[list[str]]:
    """Return one row of texts per task, with the columns of `TASK_HEADER`."""
    shown = []
    for task, tries in grouped(findings.tries, lambda attempt: attempt.task).items():
        cheats = [attempt for attempt in tries if attempt.family != "honest"]
        honest = [
            attempt for attempt in tries if attempt.family == "honest" and attempt.result != "does not apply"
        ]
        idle = sum(attempt.result == "does not apply" for attempt in cheats)
        bad = sum(not attempt.good for attempt in cheats)
        passed = sum(attempt.good for attempt in honest)
        shown.append([task, str(len(cheats) - idle), str(bad), str(idle), f"{passed} of {len(honest)}"])
    return shown


TASK_HEADER = ["task", "cheats", "not stopped", "do not apply", "honest"]


def grouped(tries: Sequence[Try], key: Callable[[Try], str]) -> dict[str, list[Try]]:
    """Group tries by a key; groups are in order of their first try."""
    groups: dict[str, list[Try]] = {}
    for attempt in tries:
        groups.setdefault(key(attempt), []).append(attempt)
    return groups


def markdown(findings: Findings) -> str:
    """Return all findings as markdown, one table per family."""
    tasks = len({attempt.task for attempt in findings.tries})
    bad = sum(not attempt.good for attempt in findings.tries if attempt.family != "honest")
    tried = sum(
        attempt.family != "honest" and attempt.result != "does not apply" for attempt in findings.tries
    )
    parts = [
        f"Tried on {tasks} tasks of {', '.join(findings.sets)}: {tried} attempts at cheating, {bad} not stopped."
    ]
    for family, title in {**FAMILIES, "honest": "Honest but unusual"}.items():
        group = [attempt for attempt in findings.tries if attempt.family == family]
        if not group:
            continue
        head = "what it does" if family == "honest" else "what it tries"
        parts.append(f"**{title}**\n\n| | {head} | stopped by | scored |\n|---|---|---|---|")
        parts[-1] += "".join(
            f"\n| {_plain(name)} | {_plain(tells)} | {_plain(layer)} | {_plain(scored)} |"
            for name, _, tells, layer, scored in rows(group)
        )
    return "\n\n".join(parts)


def write_between_marks(path: Path, text: str) -> None:
    """Put text between the two marks of a document. Raises NoMarks."""
    held = path.read_text(encoding="utf-8") if path.is_file() else ""
    before, start, rest = held.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise NoMarks(f"{path} has no place for the table; put these two lines in it: {START} and {END}")
    write_whole(path, f"{before}{START}\n\n{text}\n\n{END}{after}")


def _plain(text: str) -> str:
    return text.replace("|", "\\|")
