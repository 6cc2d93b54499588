"""Run a repository's tests in a sandbox and read the outcome of each, by test id.

The only module that knows test frameworks: its callers see test ids and outcomes. Ids are pytest node ids
relative to the working directory (`tests/test_x.py::TestY::test_z[1]`), and have that shape with unittest
too; with `junit` they are `file::classname::name`, as the test program wrote them (`envs.testing.junit`).
"""

from __future__ import annotations

import base64
import itertools
import json
import math
import os
import posixpath
import re
import secrets
import shlex
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from importlib import resources

from sandboxes.base import Sandbox

from .events import Line, irregularities, read_lines
from .junit import Case, JunitError, read_junit

LOG_BYTES = 65_536
LEAST_PATIENCE, MOST_PATIENCE = 1.5, 6.0
"""Bounds of the wall time of a run, as multiples of its processor time."""
OUT_OF_TIME = (128 + signal.SIGXCPU, -signal.SIGXCPU)
"""Exit codes of a process that used up its processor time."""

_ENVIRONMENT = {
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONSAFEPATH": "1",  # known from Python 3.11 on; the runners see to older ones, and unset it
    "TZ": "UTC",
}


COLD_VARIABLE = "DAYTHREE_COLD_TESTS"
"""If this variable is set in our environment, every test run starts cold: for comparison and debugging."""

RUNNERS = {"pytest": "pytest_program.py", "unittest": "unittest_program.py", "junit": "junit_program.py"}
"""Kind of test runner -> program sent into the sandbox."""


@dataclass(frozen=True)
class RunnerSetup:
    """How a project's tests are run; recorded at registration."""

    runner: str = "pytest"
    """`pytest` or `unittest`, which report over their own descriptor; or `junit`, any other program that
    writes JUnit XML: the process under test writes that report, so it is weaker evidence."""
    import_paths: tuple[str, ...] = (".",)
    """Folders, relative to the tree, from which the project's code is imported."""
    plugins: tuple[str, ...] = ()
    """pytest plugins to load by name; no other is loaded."""
    options: tuple[str, ...] = ()
    """pytest options that change the meaning of tests (`--import-mode=importlib`, `--doctest-modules`).
    The rest of the project's `addopts` is ignored (`kept_options`)."""

    command: str = ""
    """With `junit`: a command for `sh`. Either run once, with `{targets}` for the test files and
    `{reports}` for an empty folder outside the tree that receives reports; or, for programs whose
    reports do not name the file of a test, run once per test file, with `{target}`, and `{report}` for
    the file of its report."""
    reports: str = ""
    """With `junit`: which files of that folder are reports, a name or a pattern; all `*.xml` when empty."""

    def __post_init__(self) -> None:
        assert self.runner in RUNNERS, f"unknown test runner {self.runner!r}: choose one of {list(RUNNERS)}"
        if self.runner == "junit":
            wanted = "{report}" if "{target}" in self.command else "{reports}"
            assert wanted in self.command, f"a junit command must write its report into {wanted}"
            assert not self.reports.startswith("/") and ".." not in self.reports.split("/"), (
                "junit reports are named relative to the folder {reports}"
            )
        else:
            assert not (self.command or self.reports), f"{self.runner} takes neither command nor reports"


@dataclass(frozen=True)
class StackFrame:
    """One stack frame inside the project."""

    path: str
    line: int
    function: str


@dataclass(frozen=True)
class Failure:
    """Why a test failed: the exception and where in the project it came from, outermost frame first."""

    error: str
    message: str
    frames: tuple[StackFrame, ...] = ()


@dataclass(frozen=True)
class RunReport:
    """The outcomes of one test run.

    RunReport({"tests/test_a.py::test_x": "passed", "tests/test_a.py::test_y": "failed"}, finished=True)
    """

    outcomes: Mapping[str, str] = field(default_factory=dict)
    """Test id to `passed`, `failed`, `error`, `skipped`, `xfailed`, `xpassed`, `unfinished` or
    `duplicate` (reported more than once, so the outcome is unknown)."""
    failures: Mapping[str, Failure] = field(default_factory=dict)
    collect_errors: Mapping[str, str] = field(default_factory=dict)
    """Files that could not be collected, with the end of the error text."""
    finished: bool = False
    """The session ended by itself, neither killed nor exited from within, and its event log is
    well-formed."""
    irregular: tuple[str, ...] = ()
    """Irregularities of the event log, one line each (`envs.testing.events`)."""
    timed_out: bool = False
    log: str = ""
    """Standard output and error, for people."""
    duration_s: float = 0.0
    changes: tuple[str, ...] | None = None
    """Parts of the test framework that were replaced meanwhile, by the test process's own account; None
    without it."""
    entered: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """With `profile`: the functions of the tree, `file::function`, that each test entered."""
    forked: bool = False
    """Whether the tests ran in a fork of the sandbox's template, not from a cold start."""

    def ids(self, outcome: str) -> tuple[str, ...]:
        """Return the sorted ids of tests with this outcome."""
        return tuple(sorted(test for test, got in self.outcomes.items() if got == outcome))

    @property
    def summary(self) -> str:
        """Counts by outcome, without times, so that equal code gives equal text."""
        counts = Counter(self.outcomes.values())
        if self.collect_errors:
            counts["collection errors"] = len(self.collect_errors)
        return ", ".join(f"{number} {name}" for name, number in sorted(counts.items())) or "no tests ran"


def template(setup: RunnerSetup, hash_seed: int = 0) -> tuple[str, ...]:
    """Return `SandboxSpec.template`: a process that has loaded all but the project. Empty: no template."""
    if setup.runner == "junit" or os.environ.get(COLD_VARIABLE):
        return ()
    settings = [f"{key}={value}" for key, value in _environment(hash_seed).items()]
    return ("env", *settings, *_program(setup.runner), *setup.plugins)


def _environment(hash_seed: int) -> dict[str, str]:
    return _ENVIRONMENT | {"PYTHONHASHSEED": str(hash_seed)}


@cache
def _program(runner: str) -> tuple[str, ...]:
    names = (RUNNERS[runner], *(() if runner == "junit" else ("watch.py",)))
    return (
        "python3",
        "-c",
        *(resources.files("envs.testing.programs").joinpath(name).read_text() for name in names),
    )


def run_tests(
    sandbox: Sandbox,
    setup: RunnerSetup,
    targets: Sequence[str],
    *,
    timeout_s: float,
    cold: bool = False,
    hash_seed: int = 0,
    profile: bool = False,
    brief: bool = False,
) -> RunReport:
    """Run test files or ids in the sandbox's working directory. With `profile`, record the functions entered.

    `timeout_s` bounds the processor time of each process, so that other work on the machine does not change
    an outcome, and `wall_s` of it the wall time. Runs in a fork of the sandbox's template where the template
    fits this setup and `hash_seed`, unless `cold`. With `brief`, the log has a line per failure in place of a
    traceback. Raises SandboxError when the sandbox fails; failures of the tests are part of the report.
    """
    nonce = secrets.token_hex(16)
    workdir = sandbox.spec.workdir
    request = {
        "nonce": nonce,
        "targets": list(targets),
        "plugins": list(setup.plugins),
        "options": list(setup.options),
        "paths": [workdir if path == "." else f"{workdir}/{path}" for path in setup.import_paths],
        "profile": profile,
        "brief": brief,
        "cpu_s": math.ceil(timeout_s),
    }
    if setup.runner == "junit":  # which knows files, not tests
        request["targets"] = list(dict.fromkeys(target.partition("::")[0] for target in targets))
        request |= {"command": setup.command, "reports": setup.reports or "**/*.xml"}
    known = sandbox.spec.template
    warm = bool(known) and known == template(setup, hash_seed) and not cold
    result = sandbox.exec(
        _program(setup.runner),
        timeout_s=wall_s(timeout_s),
        env=_environment(hash_seed),
        stdin=json.dumps(request).encode(),
        output_limit=LOG_BYTES,
        report=True,
        forked=warm,
    )
    log = result.stdout + ("\n" + result.stderr if result.stderr else "")
    if warm and not result.forked:
        log += "\nNo template answered in the sandbox: this run started cold.\n"
    read = partial(read_report, result.report, nonce, plugins=setup.plugins)
    if setup.runner == "junit":
        read = partial(read_junit_report, result.report, nonce, workdir, request["targets"])
    cut = result.timed_out or result.exit_code in OUT_OF_TIME
    if cut:
        log += f"\nThe run was cut off after {result.duration_s:.1f} s; its limit is {timeout_s:g} s.\n"
    report = read(timed_out=cut, log=log, duration_s=result.duration_s)
    return replace(report, forked=result.forked)


def wall_s(processor_s: float) -> float:
    """Return the wall time in which a run may use its processor time: more while the machine is loaded."""
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    return processor_s * min(max(LEAST_PATIENCE, 2 * load), MOST_PATIENCE)


_KEPT = re.compile(r"--(import-mode|doctest-[a-z-]+|pyargs|keep-duplicates|asyncio-mode)(=.*)?$")


def kept_options(addopts: str) -> tuple[str, ...]:
    """Return those of a project's `addopts` that decide what a test is and how it is imported."""
    try:
        words = shlex.split(addopts)
    except ValueError:
        words = addopts.split()
    kept: list[str] = []
    for word, following in itertools.zip_longest(words, words[1:], fillvalue=""):
        if _KEPT.match(word):
            needs_value = word in ("--import-mode", "--doctest-glob", "--doctest-report", "--asyncio-mode")
            kept.append(f"{word}={following}" if needs_value else word)
    return tuple(kept)


def read_report(
    data: bytes,
    nonce: str,
    *,
    plugins: Sequence[str] | None = None,
    timed_out: bool = False,
    log: str = "",
    duration_s: float = 0.0,
) -> RunReport:
    """Turn the runner's event log into a report; lines without the nonce and torn lines are no evidence.

    `plugins` are the permitted plugins; None permits any. A run with an irregular event log counts as
    unfinished, and its report lists the irregularities.
    """
    lines, foreign = read_lines(data, nonce)
    irregular = irregularities(lines, foreign, duration_s, plugins)
    phases: dict[str, list[tuple[str, str]]] = {}
    broken: set[str] = set()
    finished: Counter[str] = Counter()
    failures: dict[str, Failure] = {}
    changes: tuple[str, ...] | None = None
    entered: dict[str, frozenset[str]] = {}
    for fields in lines:
        match fields:
            case {"kind": "phase", "id": str(test), "when": str(when), "outcome": str(outcome)}:
                phases.setdefault(test, []).append((when, outcome))
            case {"kind": "part", "id": str(test)}:  # a subtest that failed, whatever its test says
                broken.add(test)
            case {"kind": "finish", "id": str(test)}:
                finished[test] += 1
            case {"kind": "failure", "id": str(test)}:
                failures.setdefault(
                    test, _failure(fields)
                )  # the first failure is the cause of the later ones
            case {"kind": "watch", "changes": list(found)}:
                changes = tuple(map(str, found))
            case {"kind": "entered", "id": str(test), "functions": list(found)}:
                entered[test] = frozenset(map(str, found))
    outcomes = {
        test: _outcome(phases.get(test, []), finished[test])
        for test in sorted(phases.keys() | finished.keys() | broken)
    }
    return RunReport(
        outcomes={
            test: "failed" if outcome == "passed" and test in broken else outcome
            for test, outcome in outcomes.items()
        },
        failures=failures,
        collect_errors={
            line.get("id", ""): line.get("message", "") for line in lines if line.get("kind") == "collect"
        },
        finished=not irregular and any(fields.get("kind") == "end" for fields in lines),
        irregular=irregular,
        timed_out=timed_out,
        log=log,
        duration_s=duration_s,
        changes=changes,
        entered=entered,
    )


def read_junit_report(
    data: bytes,
    nonce: str,
    root: str,
    targets: Sequence[str] = (),
    *,
    timed_out: bool = False,
    log: str = "",
    duration_s: float = 0.0,
) -> RunReport:
    """Turn the lines of `junit_program.py` into a report; `root` is the tree's folder in the sandbox.

    A report called `NAME.xml` is about the target `NAME`, if it names no files itself. An unreliable report
    is ignored, and the run then counts as unfinished.
    """
    lines, _ = read_lines(data, nonce)
    known = {posixpath.normpath(target) for target in targets}
    cases: list[Case] = []
    errors: dict[str, str] = {}
    whole = True
    files = 0
    for fields in lines:
        match fields:
            case {"kind": "collect", "id": str(name), "message": str(message)}:
                errors[name], whole = message, False
            case {"kind": "file", "name": str(name), "data": str(encoded)}:
                files += 1
                try:
                    about = name.removesuffix(".xml") if name.removesuffix(".xml") in known else ""
                    report = read_junit(base64.b64decode(encoded), root, about)
                except (JunitError, ValueError) as error:  # ValueError: it is not base64
                    errors[name], whole = str(error), False
                else:
                    cases += report.cases
                    errors |= {about or suite: message for suite, message in report.suite_errors.items()}
    counts = Counter(case.id for case in cases)
    return RunReport(
        outcomes={case.id: case.outcome if counts[case.id] == 1 else "duplicate" for case in cases},
        failures={
            case.id: Failure(case.error, case.message)
            for case in cases
            if case.outcome in ("failed", "error")
        },
        collect_errors=errors,
        finished=whole and files > 0 and any(fields.get("kind") == "end" for fields in lines),
        timed_out=timed_out,
        log=log,
        duration_s=duration_s,
    )


def _outcome(phases: Sequence[tuple[str, str]], finishes: int) -> str:
    """Decide one test's outcome from its phases; only a single complete sequence is `passed`."""
    if finishes == 0:
        return "unfinished"
    if finishes > 1 or len([when for when, _ in phases if when == "call"]) > 1:
        return "duplicate"
    for when, outcome in phases:
        if outcome != "passed":
            return "error" if when != "call" and outcome == "failed" else outcome
    return "passed" if phases == [("call", "passed")] else "unfinished"


def _failure(fields: Line) -> Failure:
    frames = tuple(StackFrame(*frame) for frame in fields.get("frames", ()))
    return Failure(fields.get("error", ""), fields.get("message", ""), frames)
