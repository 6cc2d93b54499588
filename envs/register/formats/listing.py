"""What a row lists against what was run: the tests it means, and whether they do what it says.

FAIL_TO_PASS is the row's promise: each of its names has to stand for tests that pass after the fix, and for
at least one that fails before it; else the row makes no task. PASS_TO_PASS lists what happened to pass where
the data set was made: names that no run here confirms are dropped, and named.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..proof.validate import Proof
from .entry import Entry, RowError
from .known_tests import KnownTests


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
        said = proof.evidence.get("said")
        raise RowError(f"FAIL_TO_PASS: {proof.result}" + (f" ({said})" if said else ""))
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
