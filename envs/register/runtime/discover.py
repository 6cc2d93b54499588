"""Find a library's stable tests, and the functions that each test calls.

The tests run several times on the unchanged library. A test that passes every time is stable and may grade
tasks; a test that passes only sometimes is flaky and never grades.
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
"""Deadline for one run of the test suite: every task runs parts of the suite many times."""
SETUP_S = 60.0
"""Deadline for writing a tree into a sandbox, and for reading a file back."""
WIDER_S = 2.0
"""Time limit up to which a task's test files include tests of the same module's other functions."""
GRADED_BY = (
    "the test files whose stable tests call a changed function; then, quickest first and up to "
    f"{WIDER_S:g} s in all, those that call anything else in a changed module"
)
"""How a task's test files are selected, in prose; recorded as evidence."""
_TRACE_FOLDER = ".daythree"
_TRACE_PLUGIN = "daythree_tracing"


@dataclass(frozen=True)
class Suite:
    """A library's stable and flaky tests, and the calls and durations measured on the unchanged library."""

    stable: frozenset[str]
    """Test ids, such as `tests/test_make.py::TestAttr::test_repr`."""
    flaky: tuple[str, ...]
    left_out: Mapping[str, str]
    """Test files that pytest cannot collect, each with the last line of the error."""
    runs: int
    duration_s: float
    """Duration of one run of the suite, median over the runs."""
    calls: Mapping[str, frozenset[str]]
    """`path::function` to the stable tests that call it."""
    steps: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """`path::function`, test functions included, to the functions that it calls directly."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Test file to its share of one run of the suite."""

    def nearest_files(self, places: Iterable[str]) -> tuple[str, ...]:
        """Return the files whose stable tests call at least one of the functions (`path::function`)."""
        return _files(self.calls.get(place, ()) for place in places)

    def graded_files(self, places: Sequence[str]) -> tuple[str, ...]:
        """Return the test files that grade a change to these functions, selected as GRADED_BY describes."""
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
    """Run the whole suite `runs` times, and once more with a tracer that records calls.

    Raises RegisterError when no test is stable, SandboxError when the sandbox fails.
    """
    what = f"running the tests of {project.source.name}"
    progress(what, 0, runs + 1)
    sandbox.unpack(pack(project.tree), ".", timeout_s=SETUP_S)
    first = run_tests(sandbox, project.tests, project.test_files, timeout_s=SUITE_S)
    left_out = {path.split("::")[0]: _last_line(text) for path, text in first.collect_errors.items()}
    targets = [path for path in project.test_files if path not in left_out]
    if not targets:
        raise _cannot_run(project, first)
    if left_out:  # pytest runs nothing after a collection error
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
    """Trace a suite's `calls`, `steps` and `seconds`.

    Without a trace, every test is assumed to call every function, so that no relevant test is missed.
    """
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
    """Divide a run's duration among test files in proportion to the traced run, which is slower."""
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
