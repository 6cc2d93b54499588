"""The tests that a row lists, found among those that were run, and whether they do what the row says.

FAIL_TO_PASS is the row's promise: each of its names has to stand for tests that pass after the fix, and for
at least one that fails before it; else the row makes no task. PASS_TO_PASS lists what happened to pass where
the data set was made: names that no run here confirms are dropped, and named.

Data sets took their names from what test runs printed, so a name may be less than an id:

    tests/test_a.py::test_x[1]          the id itself
    tests/test_a.py::test_x[the         cut at the first space of `test_x[the end]`
    test_x (package.module.Class)       as unittest prints it
    Class.test_x, test_x                without its file

A name that fits several ids stands for each of them: the data set could not tell them apart either.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from ..proof.proofs import Proof
from .entry import Entry, RowError


@dataclass(frozen=True)
class Listed:
    """The tests of a task, sorted."""

    fail_to_pass: tuple[str, ...]
    pass_to_pass: tuple[str, ...]
    dropped: tuple[str, ...]
    """Names that no run confirmed, or that were flaky."""


def agree(entry: Entry, proof: Proof) -> Listed:
    """Find a row's tests among those that were proven. Raises RowError, which names field and test."""
    if not proof.valid:
        reason = proof.evidence.get("said")
        raise RowError(f"FAIL_TO_PASS: {proof.result}" + (f" ({reason})" if reason else ""))
    failing, passing = set(proof.fail_to_pass), set(proof.pass_to_pass)
    known = KnownTests([*failing, *passing, *proof.flaky])
    fail_to_pass: set[str] = set()
    pass_to_pass: set[str] = set()
    for name in entry.fail_to_pass:
        found = set(known.find(name))
        _check(name, found, failing, passing)
        fail_to_pass |= found & failing
        pass_to_pass |= found & passing
    dropped: list[str] = []
    for name in (*entry.pass_to_pass, *entry.to_pass):
        found = set(known.find(name))
        if not found or not found <= failing | passing:
            dropped.append(name)
        fail_to_pass |= found & failing  # it has to pass after the fix, and here it fails before it
        pass_to_pass |= found & passing
    if entry.to_pass and dropped:
        raise RowError(f"expected_output_json: {dropped[0]!r} does not pass every time after the fix")
    if not fail_to_pass:
        raise RowError("expected_output_json: none of its tests fails before the fix")
    return Listed(tuple(sorted(fail_to_pass)), tuple(sorted(pass_to_pass)), tuple(dropped))


def _check(name: str, found: set[str], failing: set[str], passing: set[str]) -> None:
    if not found:
        raise RowError(f"FAIL_TO_PASS: {name!r} does not pass after the fix, or no test is called that")
    flaky = sorted(found - failing - passing)
    if flaky:
        raise RowError(f"FAIL_TO_PASS: {flaky[0]!r} does not do the same in every run")
    if not found & failing:
        raise RowError(f"FAIL_TO_PASS: {name!r} passes before the fix already")


_UNITTEST = re.compile(r"^(?P<test>\w+) \((?P<place>[\w.]+)\)$")


class KnownTests:
    """The ids of a run, found by any of their names."""

    def __init__(self, ids: Iterable[str]) -> None:
        self._by_name: dict[str, set[str]] = defaultdict(set)
        for each in ids:
            for name in _names(each):
                self._by_name[name].add(each)

    def find(self, name: str) -> tuple[str, ...]:
        """Return the ids a name stands for, sorted; none when no test of the run is called that."""
        for spelling in _spellings(name.strip()):
            if spelling in self._by_name:
                return tuple(sorted(self._by_name[spelling]))
        return ()


def _names(test: str) -> Iterable[str]:
    """What a test may be called: by its id, by a cut id, by module and class, without its file."""
    yield test
    if " " in test:
        yield test.split(maxsplit=1)[0]
    path, _, inner = test.partition("::")
    if inner:
        dotted = inner.replace("::", ".")
        yield f"::{dotted}"
        if " " in dotted:
            yield f"::{dotted.split(maxsplit=1)[0]}"
        parts = path.removesuffix(".py").split("/")
        for start in range(len(parts)):  # a module is named from wherever it is imported
            yield f"module {'.'.join(parts[start:])}.{dotted}"
    elif "." in test:
        parts = test.split(".")
        for start in range(len(parts) - 1):
            yield f"module {'.'.join(parts[start:])}"
            yield f"::{'.'.join(parts[start:])}"


def _spellings(name: str) -> Iterable[str]:
    yield name
    printed = _UNITTEST.match(name)
    if printed:
        place = printed["place"].removesuffix(f".{printed['test']}")  # Python 3.11 repeats the test's name
        yield f"module {place}.{printed['test']}"
    elif "::" not in name and "/" not in name.partition("[")[0]:
        yield f"::{name}"
