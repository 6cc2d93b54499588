"""Grade inside a Harbor container: lay the trusted tests over the agent's files, run them, write the reward.

A copy of this file and of the modules it imports travels in a task directory's `tests/verifier`; Harbor puts
`tests` into the container when the agent is done. The program takes three arguments: the folder of
`expected.json` and `trusted`, the working directory, and the file for the reward.

The tests run in the agent's own container, so an agent's changes to Python itself are not undone.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs.protection import folders_of_tests, is_judging, is_steering
from envs.testing.run import RunnerSetup, run_tests
from sandboxes.base import ExecResult, SandboxSpec


def main(tests: str, workdir: str, reward: str) -> None:
    """Write `1` to the file `reward` when every expected test passed, else `0`.

    `tests` is the folder of `expected.json` and `trusted`; `workdir` contains the agent's files.
    """
    expected = json.loads((Path(tests) / "expected.json").read_bytes())
    lay_trusted(Path(tests) / "trusted", Path(workdir), frozenset(expected["allowed"]))
    setup = RunnerSetup(**{name: _frozen(value) for name, value in expected["setup"].items()})
    report = run_tests(Here(workdir), setup, expected["targets"], timeout_s=expected["timeout_s"])  # pyright: ignore[reportArgumentType]
    sys.stdout.write(report.log)
    wanted = [*expected["fail_to_pass"], *expected["pass_to_pass"]]
    failed = [test for test in wanted if report.outcomes.get(test) != "passed"]
    for test in failed:
        sys.stdout.write(f"\n{test}: {report.outcomes.get(test, 'no result')}")
    resolved = bool(wanted) and not failed and report.finished and not report.timed_out
    Path(reward).parent.mkdir(parents=True, exist_ok=True)
    Path(reward).write_text("1\n" if resolved else "0\n")


def lay_trusted(trusted: Path, workdir: Path, allowed: frozenset[str]) -> None:
    """Remove the files of the working directory that could take part in judging, and copy the trusted ones.

    The paths in `allowed` belong to the agent: existing files at these paths stay.
    """
    judging = folders_of_tests(path.relative_to(trusted).as_posix() for path in _files(trusted))
    for path in _files(workdir):
        name = path.relative_to(workdir).as_posix()
        if (is_steering(name) or is_judging(name, judging)) and name not in allowed:
            path.unlink()
    for path in _files(trusted):
        place = workdir / path.relative_to(trusted)
        if place.relative_to(workdir).as_posix() not in allowed or not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, place)


def _files(folder: Path) -> list[Path]:
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != ".git"]
        found += [Path(root) / name for name in names]
    return sorted(found)


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@dataclass(frozen=True)
class Here:
    """The part of a sandbox that `run_tests` uses, with this container as the sandbox."""

    workdir: str

    @property
    def spec(self) -> SandboxSpec:
        return SandboxSpec(image="", workdir=self.workdir)

    def exec(
        self,
        command: str | list[str],
        *,
        timeout_s: float,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        stdin: bytes = b"",
        output_limit: int = 65_536,
        report: bool = False,
        forked: bool = False,  # noqa: ARG002 (nothing is warm here)
    ) -> ExecResult:
        started = time.monotonic()
        line = ["sh", "-c", command] if isinstance(command, str) else list(command)
        with tempfile.TemporaryFile() as report_file, tempfile.TemporaryFile() as output_file:
            settings = {**os.environ, **(env or {})}
            if report:
                settings["DAYTHREE_REPORT_FD"] = str(report_file.fileno())
            process = subprocess.Popen(
                line, cwd=cwd or self.workdir, env=settings, stdin=subprocess.PIPE, stdout=output_file,
                stderr=subprocess.STDOUT, pass_fds=(report_file.fileno(),), start_new_session=True,
            )  # fmt: skip
            try:
                process.communicate(stdin, timeout=timeout_s)
            except subprocess.TimeoutExpired:
                pass
            finally:
                timed_out = process.poll() is None
                if timed_out:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            report_file.seek(0)
            output_file.seek(0)
            output = output_file.read()[-output_limit:].decode("utf-8", "replace")
            code = None if timed_out else process.returncode
            return ExecResult(
                code, output, "", timed_out, False, time.monotonic() - started, report_file.read()
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
