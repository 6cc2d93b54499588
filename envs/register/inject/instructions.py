"""The instruction of an injected bug: a report of failing tests, as from a colleague who only ran the tests.

The report names the failing tests, their errors, and the project's frames of the traceback; never the change
to make. Of a test that the policy's tree lacks, it says no value that the test expects.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from envs.testing.run import Failure

from .hiding import Hidden

SHOWN_TESTS = 3
MESSAGE_CHARS = 240
FRAMES = 3


def write_instruction(visible: Sequence[str], failures: Mapping[str, Failure], hidden: Hidden) -> str:
    """Describe the failing tests that the policy's tree still holds, the first test with a traceback.

    `failures` maps test ids to failures on the full tree; `hidden` converts the line numbers.
    """
    if not visible:
        return _symptom(failures, hidden)
    first = next((test for test in visible if test in failures), visible[0])
    others = [test for test in visible if test != first]
    count = "A test fails" if len(visible) == 1 else f"{len(visible)} tests fail"
    lines = [f"{count} that passed before. Find the cause in the project's code and fix it there.", "", first]
    if first in failures:
        lines += _describe(failures[first], hidden)
    lines += others[: SHOWN_TESTS - 1]
    left = len(others) - (SHOWN_TESTS - 1)
    if left > 0:
        lines.append(f"and {left} more")
    return "\n".join(lines)


def _symptom(failures: Mapping[str, Failure], hidden: Hidden) -> str:
    count = "A test that is not here fails" if len(hidden.tests) == 1 else "Tests that are not here fail"
    lines = [f"{count}, and passed before. Find the cause in the project's code and fix it there.", ""]
    for test in hidden.tests[:SHOWN_TESTS]:
        lines.append(test)
        failure = failures.get(test)
        if failure is not None and failure.error != "AssertionError":
            inside = [frame for frame in failure.frames if frame.path != test.partition("::")[0]]
            lines += _describe(replace(failure, frames=tuple(inside)), hidden)
        elif failure is not None:
            lines.append("  AssertionError")
    return "\n".join(lines)


def _describe(failure: Failure, hidden: Hidden) -> list[str]:
    message = _short(failure.message)
    lines = [f"  {failure.error}: {message}" if message else f"  {failure.error}"]
    frames = failure.frames[-FRAMES:]
    return lines + [
        f"  {frame.path}:{hidden.line(frame.path, frame.line)} in {frame.function}" for frame in frames
    ]


def _short(message: str) -> str:
    """Shorten a message to one line without addresses and hints about pytest's options."""
    words = " ".join(message.replace("Use -v to get more diff", "").split())
    text = re.sub(r"0?x[0-9a-f]{8,}", "0x...", words)
    return text if len(text) <= MESSAGE_CHARS else text[: MESSAGE_CHARS - 3] + "..."
