"""Match the test names of a row to the tests that ran, and check their outcomes.

Each FAIL_TO_PASS name must match tests that pass after the fix, at least one of which fails before the fix;
otherwise the row makes no task. PASS_TO_PASS depends on the data set's own environment: names that no run
here confirms are dropped and recorded.

Data sets took test names from printed output, so a name may be shorter than a test id:

    tests/test_a.py::test_x[1]          the id itself
    tests/test_a.py::test_x[the         cut at the first space of `test_x[the end]`
    test_x (package.module.Class)       as unittest prints it
    Class.test_x, test_x                without its file

A name that matches several ids stands for all of them: the data set could not distinguish them either.
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
    """PASS_TO_PASS names that no run confirmed, and flaky tests."""


def agree(entry: Entry, proof: Proof) -> Listed:
    """Match a row's test names to the proof's tests. Raises RowError, which names the field and the test."""
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
        fail_to_pass |= found & failing  # fails before the fix here, whatever the data set saw
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
    """Index of a run's test ids by every name that a data set may use for them."""

    def __init__(self, ids: Iterable[str]) -> None:
        self._by_name: dict[str, set[str]] = defaultdict(set)
        for test in ids:
            for name in _names(test):
                self._by_name[name].add(test)

    def find(self, name: str) -> tuple[str, ...]:
        """Return the sorted ids that match a name, or none: `test_x` gives `("test_a.py::test_x",)`."""
        for spelling in _spellings(name.strip()):
            if spelling in self._by_name:
                return tuple(sorted(self._by_name[spelling]))
        return ()


def _names(test: str) -> Iterable[str]:
    """Yield the possible names of a test id: whole, cut at a space, by module and class, without file."""
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
        for start in range(len(parts)):  # the import root is unknown
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
