"""Observations as text: test runs and command results in words, and long texts cut in the middle."""

from __future__ import annotations

from sandboxes.base import ExecResult

from ..testing.run import RunReport
from ..types import Observation

BACKGROUND = 8
"""Processes named that a command left running."""
_LIMITS = {
    "memory": "out of memory",
    "pids": "no more processes may be started",
    "disk": "no space left",
    "files": "too many open files",
}
"""Limits of the sandbox, in the observation's words; time and output have sentences of their own."""


def cut_middle(observation: Observation, limit: int) -> Observation:
    """Keep an observation's beginning and end, with a note on how to see the rest."""
    text = observation.text
    if len(text) <= limit:
        return observation
    half = limit // 2
    cut = f"\n[... {len(text) - 2 * half} characters cut; ask for a narrower part to see them ...]\n"
    return Observation(text[:half] + cut + text[-half:], observation.is_error, True, observation.call_id)


def describe_run(report: RunReport) -> str:
    """Describe a test run without times: counts, then each failure with its stack."""
    parts = [report.summary]
    if report.timed_out:
        parts.append("(killed: the tests took too long)")
    elif not report.finished:
        parts.append("(the test process ended before its end)")
    parts += [f"{path}: {message}" for path, message in report.collect_errors.items()]
    for test, outcome in report.outcomes.items():
        if outcome in ("failed", "error", "unfinished", "duplicate"):
            failure = report.failures.get(test)
            parts.append(f"{outcome.upper()} {test}")
            if failure is not None:
                parts.append(f"{failure.error}: {failure.message}")
                parts += [f"  {frame.path}:{frame.line} in {frame.function}" for frame in failure.frames]
    if not report.outcomes and not report.collect_errors:
        parts.append(report.log.strip())
    return "\n".join(part for part in parts if part)


def describe_result(result: ExecResult, *, killed_after_s: float) -> str:
    """Describe a command's output, its end, the limit it hit and the processes it left."""
    parts = [result.stdout.rstrip("\n"), result.stderr.rstrip("\n")]
    if result.timed_out:
        parts.append(f"(killed after {killed_after_s:g} s)")
    elif result.exit_code:
        parts.append(f"(exit code {result.exit_code})")
    if result.limit in _LIMITS:
        parts.append(f"({_LIMITS[result.limit]})")
    if result.background:
        names = ", ".join(f"{process.name} ({process.pid})" for process in result.background[:BACKGROUND])
        parts.append(f"(still running: {names})")
    return "\n".join(part for part in parts if part) or "(no output)"
