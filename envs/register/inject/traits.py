"""Measures of a task's difficulty, derived from how the bug was made and noticed.

The measures are recorded in `Task.traits`, for samplers and reports:

    kind       kind of the bug                      path, line, function   of the first edit
    places     every changed function               functions, files       number of changed ones
    lines      lines the reference patch adds and removes
    failing    tests that fail                      calling    stable tests that call a changed function
    distance   call steps from a failure's frame to the nearest changed function: 0 if the innermost frame of
               the project is in a changed function; left out if unknown
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from envs.testing.run import Failure, StackFrame

from ..runtime.discover import Suite
from .bugs import Bug
from .probe import Probe


def task_traits(probe: Probe, suite: Suite, reference_patch: str) -> dict[str, str | int | float]:
    """Describe how a bug was made and how hard the bug is to find and to undo."""
    bug = probe.bug
    found: dict[str, str | int | float] = {
        "kind": bug.kind,
        "path": bug.path,
        "line": bug.line,
        "function": bug.function,
        "places": ", ".join(bug.places),
        "functions": len(bug.places),
        "files": len(bug.paths),
        "lines": changed_lines(reference_patch),
        "failing": len(probe.failing),
        "calling": len(frozenset().union(*(suite.calls.get(place, ()) for place in bug.places))),
    }
    known = [
        far for failure in probe.failures.values() if (far := distance(failure, bug, suite.steps)) is not None
    ]
    return found | ({"distance": min(known)} if known else {})


def changed_lines(patch: str) -> int:
    """Return the number of lines that a diff made by git adds and removes."""
    inside, count = False, 0
    for line in patch.split("\n"):
        if line.startswith("diff --git "):
            inside = False
        elif line.startswith("@@ "):
            inside = True
        elif inside and line[:1] in ("+", "-"):
            count += 1
    return count


def distance(failure: Failure, bug: Bug, steps: Mapping[str, frozenset[str]]) -> int | None:
    """Return the call steps between a failure's innermost frame and the nearest function of a bug, or None.

    Steps are counted up the stack if the stack has a function of the bug, else down the calls of the
    unchanged library (`steps`: function to called functions). None if neither leads to the bug.
    """
    if not failure.frames:
        return None
    for up, frame in enumerate(reversed(failure.frames)):
        if any(_is_of(place, frame) for place in bug.places):
            return up
    innermost = failure.frames[-1]
    return _steps_down([name for name in steps if _is_of(name, innermost)], frozenset(bug.places), steps)


def _steps_down(
    starts: Iterable[str], wanted: frozenset[str], steps: Mapping[str, frozenset[str]]
) -> int | None:
    reached, front, down = set(starts), set(starts), 0
    while front:
        if front & wanted:
            return down
        front = set().union(*(steps.get(name, ()) for name in front)) - reached
        reached |= front
        down += 1
    return None


def _is_of(place: str, frame: StackFrame) -> bool:
    """Return whether a frame, which has no class, may belong to a function (`path::Class.function`)."""
    path, _, function = place.partition("::")
    return path == frame.path and function.rpartition(".")[2] == frame.function
