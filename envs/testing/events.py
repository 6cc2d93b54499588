"""Check that a runner's event log is complete and well-formed: numbers, order, collected tests, timing.

    {"nonce": "…", "n": 4, "t": 0.12, "kind": "start", "id": "tests/test_a.py::test_x"}

Code under test shares a process with the runner, so it can find the report's descriptor and the run's nonce
and write events of its own. A forged event must fit into the log line by line. Each event that does not fit
is reported, and a run with such an event counts as unfinished.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypedDict, cast

from ..protection import is_protected


class Line(TypedDict, total=False):
    """One event. A line whose fields have other types is not the runner's."""

    nonce: str
    n: int
    t: float
    kind: str
    id: str
    ids: list[str]
    when: str
    outcome: str
    error: str
    message: str
    frames: list[tuple[str, int, str]]
    """Path, line and function, outermost first."""
    changes: list[str]
    functions: list[str]
    plugins: list[tuple[str, str, str]]
    """Name, module and file."""
    declared: list[str]
    status: int
    name: str
    data: str


_SURROGATE = re.compile("[\ud800-\udfff]")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and not _SURROGATE.search(value)


def _is_whole(value: object) -> bool:
    return type(value) is int  # a truth is none


def _is_time(value: object) -> bool:
    return type(value) in (int, float) and 0 <= cast("float", value) < 1e9  # and so no NaN


def _are(check: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _row(*checks: Callable[[object], bool]) -> Callable[[object], bool]:
    def fits(value: object) -> bool:
        return (
            isinstance(value, list)
            and len(value) == len(checks)
            and all(check(item) for check, item in zip(checks, value, strict=True))
        )

    return fits


# Not pydantic: these modules also run as a verifier in containers that have the standard library only.
_FIELDS: Mapping[str, Callable[[object], bool]] = {
    **dict.fromkeys(("nonce", "kind", "id", "when", "outcome", "error", "message", "name", "data"), _is_text),
    **dict.fromkeys(("ids", "changes", "functions", "declared"), _are(_is_text)),
    **dict.fromkeys(("n", "status"), _is_whole),
    "t": _is_time,
    "frames": _are(_row(_is_text, _is_whole, _is_text)),
    "plugins": _are(_row(_is_text, _is_text, _is_text)),
}

NAMED = 5
"""Irregularities of one kind that are listed individually."""
CLOCK_S = 0.2
"""Tolerated difference between the clocks of runner and caller over a run."""


def read_lines(data: bytes, nonce: str) -> tuple[Sequence[Line], int]:
    """Return the runner's lines, and the number of foreign lines. A torn last line is left out."""
    whole = data.split(b"\n")[:-1]
    found = [_parse(line) for line in whole]
    ours = [fields for fields in found if fields.get("nonce") == nonce]
    return ours, len(found) - len(ours)


def _parse(line: bytes) -> Line:
    """Return a line of these types, and an empty one for all else."""
    try:
        fields: Any = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    known = fields.keys() & _FIELDS.keys() if isinstance(fields, dict) else ()
    fits = all(_FIELDS[name](fields[name]) for name in known)
    return cast("Line", fields) if known and fits else {}


def irregularities(
    lines: Sequence[Line], foreign: int, duration_s: float, plugins: Sequence[str] | None
) -> tuple[str, ...]:
    """Return a sentence per irregularity; `plugins` are the permitted plugin modules, None permits any."""
    found = [f"{foreign} lines on the report channel are not the runner's"] if foreign else []
    found += _first(_out_of_order(lines))
    found += _first(_out_of_place(lines))
    found += _first(_out_of_time(lines, duration_s))
    if plugins is not None:
        found += _first(_foreign_plugins(lines, plugins))
    return tuple(found)


def _first(sentences: Iterator[str]) -> list[str]:
    found = list(sentences)
    return found[:NAMED] + ([f"and {len(found) - NAMED} more like it"] if len(found) > NAMED else [])


def _out_of_order(lines: Sequence[Line]) -> Iterator[str]:
    """Lines are numbered, the first opens the session, and no line follows the last."""
    due = 0
    for line in lines:
        if line.get("n") != due:
            yield f"line {line.get('n')} of the report came when line {due} was due"
        due = line.get("n", due) + 1
    kinds = [line.get("kind") for line in lines]
    if "end" in kinds[:-1]:
        yield "the report goes on after its end"
    if "start" in kinds and "session" not in kinds[: kinds.index("start")]:
        yield "a test started before the session"


def _out_of_place(lines: Sequence[Line]) -> Iterator[str]:
    """A test is collected, starts, passes and finishes, in this order; all collected tests finish."""
    collected: list[str] = []
    started: set[str] = set()
    finished: list[str] = []
    broken = False
    for line in lines:
        test = line.get("id")
        match line.get("kind"):
            case "collected":
                collected += map(str, line.get("ids", ()))
            case "collect":
                broken = True
            case "start":
                started.add(str(test))
            case "phase" if line.get("outcome") == "passed" and (test not in started or test in finished):
                yield f"{test} is said to have passed while it did not run"
            case "finish":
                if test not in started:
                    yield f"{test} finished before it started"
                finished.append(str(test))
    known = set(collected)
    yield from (f"{test} finished and was never collected" for test in finished if test not in known)
    ended = next((line for line in lines if line.get("kind") == "end"), {})
    if ended.get("status") in (0, 1) and not broken and len(collected) != len(finished):
        yield f"{len(collected)} tests were collected, {len(finished)} finished"


def _out_of_time(lines: Sequence[Line], duration_s: float) -> Iterator[str]:
    """Times increase, and stay within the duration of the run."""
    last = 0.0
    for line in lines:
        seconds = line.get("t")
        if seconds is None or seconds < last:
            yield f"line {line.get('n')} of the report is from before the line before it"
        else:
            last = seconds
    if duration_s and last > duration_s + CLOCK_S:
        yield f"the report tells of {last:.1f} s, and the run lasted {duration_s:.1f} s"


def _foreign_plugins(lines: Sequence[Line], plugins: Sequence[str]) -> Iterator[str]:
    """Permitted are registered plugins, those that they or trusted files declare, and trusted files."""
    asked = [str(name) for line in lines for name in line.get("declared", ())]
    allowed = {name.partition(".")[0] for name in (*plugins, *asked)}
    seen = set[str]()
    for line in lines:
        for name, module, file in line.get("plugins", ()):
            if file and is_protected(file):
                continue
            if name not in plugins and module.partition(".")[0] not in allowed and module not in seen:
                seen.add(module)
                yield f"the plugin {module} was loaded and is none of those registered"
