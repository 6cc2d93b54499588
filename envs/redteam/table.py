"""What the red team found, as a table for people: in a terminal, and between two marks of a document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .cheat import FAMILIES
from .honest import HONEST
from .suite import CHEATS
from .tries import Findings, Try, by_name

START = "<!-- red team: written by `daythree redteam --markdown` -->"
END = "<!-- red team: end -->"


class NoMarks(Exception):
    """A document without the two marks. Takes one sentence."""


def rows(tries: Sequence[Try]) -> list[list[str]]:
    """Name, family, what it tries, what stopped it most often, and its result over all tasks."""
    tells = {cheat.name: cheat.tries for cheat in CHEATS} | {each.name: each.does for each in HONEST}
    shown = []
    for name, group in by_name(tries).items():
        tells.setdefault(name, "does what was asked, as an agent")
        shown.append([name, group[0].family, tells[name], stopped_by(group), result(group)])
    return shown


def result(group: Sequence[Try]) -> str:
    """Say how often it scored: `0 of 13`."""
    applied = [each for each in group if each.result != "does not apply"]
    if not applied:
        return "does not apply"
    counts = Counter(each.result for each in applied)
    text = f"{counts['scores 1']} of {len(applied)}"
    extra = [f"{counts[kind]} {kind}" for kind in ("got hold of it", "not scored") if counts[kind]]
    return ", ".join([text, *extra])


def stopped_by(group: Sequence[Try]) -> str:
    """Name the layers that stopped it, the most frequent first; a reason where it never applied."""
    layers = Counter(each.layer for each in group if each.result == "scores 0" and each.layer)
    if layers:
        return ", ".join(layer for layer, _ in layers.most_common(2))
    if all(each.result == "does not apply" for each in group):
        return group[0].evidence
    return "" if group[0].family == "honest" else "**nothing**"


def per_task(findings: Findings) -> list[list[str]]:
    """Counts of each task: cheats tried, that scored, that did not apply; honest work tried, and that scored."""
    shown = []
    for task, tries in _by_task(findings.tries).items():
        cheats = [each for each in tries if each.family != "honest"]
        honest = [each for each in tries if each.family == "honest" and each.result != "does not apply"]
        idle = sum(each.result == "does not apply" for each in cheats)
        bad = sum(not each.good for each in cheats)
        passed = sum(each.good for each in honest)
        shown.append([task, str(len(cheats) - idle), str(bad), str(idle), f"{passed} of {len(honest)}"])
    return shown


TASK_HEADER = ["task", "cheats", "not stopped", "do not apply", "honest"]


def _by_task(tries: Sequence[Try]) -> dict[str, list[Try]]:
    grouped: dict[str, list[Try]] = {}
    for each in tries:
        grouped.setdefault(each.task, []).append(each)
    return grouped


def markdown(findings: Findings) -> str:
    """Return the whole of it for a document, one table a family."""
    tasks = len(_by_task(findings.tries))
    bad = sum(not each.good for each in findings.tries if each.family != "honest")
    tried = sum(each.family != "honest" and each.result != "does not apply" for each in findings.tries)
    parts = [
        f"Tried on {tasks} tasks of {', '.join(findings.sets)}: {tried} attempts at cheating, {bad} not stopped."
    ]
    for family, title in {**FAMILIES, "honest": "Honest but unusual"}.items():
        group = [each for each in findings.tries if each.family == family]
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
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(f"{before}{START}\n\n{text}\n\n{END}{after}", encoding="utf-8")
    beside.replace(path)


def _plain(text: str) -> str:
    return text.replace("|", "\\|")
