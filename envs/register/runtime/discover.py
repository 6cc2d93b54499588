"""Find a library's stable tests, and the functions that each of them calls.

The unchanged library's tests run several times: a test that passed every time is stable and may be evidence;
a test that passed only sometimes is flaky and is never used.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from statistics import median

from envs.tasksets.trees import pack
from envs.testing.run import RunReport, run_tests
from sandboxes.base import Sandbox
from sandboxes.progress import Progress, silent

from ..errors import RegisterError
from ..project.project import Project, needs_compiling
from ..project.syntax import functions, parse

SUITE_S = 300.0
"""A test-suite that takes longer is not for this: every task runs parts of it many times."""
SETUP_S = 60.0
"""Deadline for laying a tree into a sandbox, and for reading from it."""
WIDER_S = 2.0
GRADED_BY = (
    "the test files whose stable tests call a changed function; then, quickest first and up to "
    f"{WIDER_S:g} s in all, those that call anything else in a changed module"
)
"""The rule by which a task's test files are chosen; recorded as evidence."""
_TRACE_FOLDER = ".daythree"
_TRACE_PLUGIN = "daythree_tracing"


@dataclass(frozen=True)
class Suite:
    """A library's working tests."""

    stable: frozenset[str]
    flaky: tuple[str, ...]
    left_out: Mapping[str, str]
    """Test files that could not be collected, each with the error's last line."""
    runs: int
    duration_s: float
    """One run of all of it, the median over the runs."""
    calls: Mapping[str, frozenset[str]]
    """`path::function` to the stable tests that call it."""
    steps: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """`path::function`, test functions included, to the functions that it calls itself."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Test file to what it adds to a run of all of them."""

    def nearest_files(self, places: Iterable[str]) -> tuple[str, ...]:
        """Return the files whose stable tests call one of these functions (`path::function`)."""
        return _files(self.calls.get(place, ()) for place in places)

    def graded_files(self, places: Sequence[str]) -> tuple[str, ...]:
        """Return the files that judge a change to these functions: see GRADED_BY."""
        chosen = list(self.nearest_files(places))
        modules = {place.split("::")[0] for place in places}
        users = _files(tests for name, tests in self.calls.items() if name.split("::")[0] in modules)
        spent = sum(self._seconds_of(path) for path in chosen)
        for path in sorted({*users} - {*chosen}, key=lambda path: (self._seconds_of(path), path)):
            spent += self._seconds_of(path)
            if spent > WIDER_S:
                break
            chosen.append(path)
        return tuple(sorted(chosen))

    def _seconds_of(self, path: str) -> float:
        return self.seconds.get(path, self.duration_s)


def _files(users: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(sorted({test.split("::")[0] for tests in users for test in tests}))


def discover(sandbox: Sandbox, project: Project, *, runs: int, progress: Progress = silent) -> Suite:
    """Run the whole suite `runs` times and once more to see what it calls.

    Raises RegisterError when no test works, SandboxError when the sandbox fails.
    """
    what = f"running the tests of {project.source.name}"
    progress(what, 0, runs + 1)
    sandbox.unpack(pack(project.tree), ".", timeout_s=SETUP_S)
    first = run_tests(sandbox, project.tests, project.test_files, timeout_s=SUITE_S)
    left_out = {path.split("::")[0]: _last_line(text) for path, text in first.collect_errors.items()}
    targets = [path for path in project.test_files if path not in left_out]
    if not targets:
        raise _cannot_run(project, first)
    if left_out:  # one file that cannot be collected keeps pytest from running the others
        first = run_tests(sandbox, project.tests, targets, timeout_s=SUITE_S)
    reports = [first]
    while len(reports) < runs and first.ids("passed"):
        progress(what, len(reports), runs + 1)
        reports.append(run_tests(sandbox, project.tests, targets, timeout_s=SUITE_S))
    passed = [set(report.ids("passed")) for report in reports]
    stable = frozenset(set.intersection(*passed))
    if not stable:
        raise _cannot_run(project, first)
    progress(what, runs, runs + 1)
    suite_s = median(report.duration_s for report in reports)
    calls, steps, seconds = _trace(sandbox, project, targets, stable, suite_s)
    progress(what, runs + 1, runs + 1)
    return Suite(
        stable=stable,
        flaky=tuple(sorted(set.union(*passed) - stable)),
        left_out=left_out,
        runs=len(reports),
        duration_s=suite_s,
        calls=calls,
        steps=steps,
        seconds=seconds,
    )


def _trace(
    sandbox: Sandbox, project: Project, targets: Sequence[str], stable: frozenset[str], suite_s: float
) -> tuple[dict[str, frozenset[str]], dict[str, frozenset[str]], dict[str, float]]:
    """Learn a suite's `calls`, `steps` and `seconds`; where that fails, every test calls every function."""
    plugin = resources.files("envs.register.runtime").joinpath("tracing.py").read_bytes()
    sandbox.write(f"{_TRACE_FOLDER}/{_TRACE_PLUGIN}.py", plugin, timeout_s=SETUP_S)
    setup = replace(
        project.tests,
        import_paths=(*project.tests.import_paths, _TRACE_FOLDER),
        plugins=(*project.tests.plugins, _TRACE_PLUGIN),
    )
    run_tests(sandbox, setup, targets, timeout_s=SUITE_S)
    try:
        found = json.loads(sandbox.read(f"{_TRACE_FOLDER}/calls.json", timeout_s=SETUP_S))
    except (FileNotFoundError, ValueError):
        found = {"tests": {}, "steps": {}, "seconds": {}}
    finally:
        sandbox.exec(["rm", "-rf", _TRACE_FOLDER], timeout_s=SETUP_S)
    users: dict[str, set[str]] = {}
    for test, names in found["tests"].items():
        for name in names:
            users.setdefault(name, set()).update({test} & stable)
    calls = {name: frozenset(tests) for name, tests in users.items() if tests}
    if not calls:
        calls = {f"{path}::{name}": stable for path in project.modules for name in _functions(project, path)}
    steps = {name: frozenset(called) for name, called in found["steps"].items()}
    return calls, steps, _by_file(found["seconds"], suite_s)


def _by_file(seconds: Mapping[str, float], suite_s: float) -> dict[str, float]:
    """Divide a run's time among its test files, as the watched run, which is slower, spent its own."""
    spent: dict[str, float] = {}
    for test, measured_s in seconds.items():
        path = test.split("::")[0]
        spent[path] = spent.get(path, 0.0) + measured_s
    whole = sum(spent.values())
    return {path: suite_s * part / whole for path, part in spent.items()}


def _functions(project: Project, path: str) -> list[str]:
    module = parse(project.tree[path].data)
    return [name for _, name in functions(module)] if module else []


def _cannot_run(project: Project, report: RunReport) -> RegisterError:
    name = project.source.name
    if report.timed_out:
        return RegisterError(
            f"the tests of {name} take longer than {SUITE_S:.0f} s; choose a smaller library"
        )
    if report.collect_errors:
        reason = _last_line(next(iter(report.collect_errors.values())))
    elif report.failures:
        failure = next(iter(report.failures.values()))
        reason = f"{failure.error}: {_last_line(failure.message)}"
    else:
        reason = _last_line(report.log)
    hint = (
        "; it has sources that need compiling, which is not done here"
        if needs_compiling(project.tree)
        else ""
    )
    return RegisterError(f"no test of {name} {project.source.version} passes: {reason}{hint}")


def _last_line(text: str) -> str:
    lines = [line.strip().removeprefix("E ").strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "the tests said nothing"
