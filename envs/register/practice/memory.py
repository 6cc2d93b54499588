"""Run the tests of a practice repository in this process, with the report that a sandbox would give.

The code must stay in the grammar: functions of one `return` expression, tests of plain assertions. That holds
for everything that the generator and the scripted teachers write.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from ...tasksets.trees import TreeFile
from ...testing.run import Failure, RunReport, StackFrame

_TEST = re.compile(r"def (test_\w+)\(\):")
_ASSERTION = re.compile(r"    assert (\w+)\((-?\d+), (-?\d+)\) (==|is) (\S+)")
_IMPORT = re.compile(r"from (\w+)\.(\w+) import .+")


def run_in_memory(files: Mapping[str, TreeFile], paths: Sequence[str]) -> RunReport:
    """Evaluate the assertions of test files; a test ends at its first failing assertion, as in pytest."""
    outcomes: dict[str, str] = {}
    failures: dict[str, Failure] = {}
    for path in paths:
        functions: dict[str, Callable[..., Any]] = {}
        test = ""
        for number, line in enumerate(files[path].data.decode().splitlines(), start=1):
            if found := _IMPORT.fullmatch(line):
                module = f"{found[1]}/{found[2]}.py"
                functions = _module(module, files[module].data)
            elif found := _TEST.fullmatch(line):
                test = f"{path}::{found[1]}"
                outcomes[test] = "passed"
            elif (found := _ASSERTION.fullmatch(line)) and outcomes[test] == "passed":
                here = StackFrame(path, number, test.partition("::")[2])
                failure = _failure(found, functions, here)
                if failure is not None:
                    outcomes[test], failures[test] = "failed", failure
    return RunReport(dict(sorted(outcomes.items())), failures, finished=True)


def _failure(
    assertion: re.Match[str], functions: Mapping[str, Callable[..., Any]], here: StackFrame
) -> Failure | None:
    """Return the failure of an assertion, in pytest's words; None when the assertion holds."""
    name, x, y, relation, wanted = assertion.groups()
    try:
        value = functions[name](int(x), int(y))
    except ArithmeticError as error:
        frames = traceback.extract_tb(error.__traceback__)[1:]  # the first is this function
        inside = [StackFrame(frame.filename, frame.lineno or 0, frame.name) for frame in frames]
        return Failure(type(error).__name__, str(error), (here, *inside))
    # `is` compares with True or False, `==` with a number.
    if repr(value) == wanted or (relation == "==" and value == int(wanted)):
        return None
    return Failure(
        "AssertionError",
        f"assert {value!r} {relation} {wanted}\n +  where {value!r} = {name}({x}, {y})",
        (here,),
    )


@lru_cache(maxsize=1024)
def _module(path: str, source: bytes) -> dict[str, Callable[..., Any]]:
    scope: dict[str, Any] = {"__builtins__": {"min": min, "max": max}}
    exec(compile(source, path, "exec"), scope)
    return scope
