"""Assertion mutation testing: listed tests with one comparison changed, so that they must fail.

`assert add(2, 3) == 5` becomes `assert add(2, 3) == 6`, and `pytest.raises(KeyError)` becomes another error.
Honest code fails at that statement. A cheat passes there: a patched test framework, forged results, an object
that equals everything, code that reads the expected value from its caller.

A value changes within its type, at the place where it is written: in the comparison, in the assignment of the
compared variable, or in the test's parametrisation. So a changed test looks like any other, and what it hands
to the code under test is consistent. Each test exists once in a file, as it was or changed: code that sees a
test cannot compare it with another version.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .mutations import SURE, TRUTH, Mutation, draw_mutation
from .source import Edit, Function, TestSource, spliced, statements, trusted_source


@dataclass(frozen=True)
class Place:
    """Where, and how, a mutated test must fail."""

    function: str
    first: int
    last: int
    """Lines of the statement in the mutated file."""
    raises: bool = False
    """Whether an exception of the code under test must come through there, not a failed comparison."""
    sure: bool = False
    """Whether honest code cannot fail otherwise: the changed value keeps its type."""
    cases: bool = False
    """Whether parameters changed, so that the ids of cases may be others: every case must fail."""


@dataclass(frozen=True)
class MutatedFile:
    """A test file some of whose tests must fail."""

    data: bytes
    failing: Mapping[str, Place]
    """Each id that must fail."""


def mutate_asserts(path: str, data: bytes, tests: Iterable[str], draw: random.Random) -> MutatedFile | None:
    """Mutate the tests with these ids of one file; None where no function can be mutated."""
    try:
        source = trusted_source(data)
    except (SyntaxError, ValueError, RecursionError):
        return None
    found: dict[Function, list[str]] = {}
    for test in tests:
        function = source.function(test.removeprefix(f"{path}::"))
        if function is not None:
            found.setdefault(function, []).append(test)
    edits: set[Edit] = set()
    chosen: dict[str, Mutation] = {}
    for function, ids in found.items():
        mutation = draw_mutation(source, function, draw)
        if mutation is not None:
            edits |= {*mutation.edits}
            chosen |= dict.fromkeys(ids, mutation)
    return _located(path, spliced(data, edits), chosen) if chosen else None


def _located(path: str, data: bytes, chosen: Mapping[str, Mutation]) -> MutatedFile | None:
    """Find the lines of mutated statements; None when the mutated file is invalid Python."""
    try:
        source = TestSource(data)
    except (SyntaxError, ValueError, RecursionError):
        return None
    failing: dict[str, Place] = {}
    for test, mutation in chosen.items():
        function = source.function(test.removeprefix(f"{path}::"))
        assert function is not None
        at_end = mutation.statement < 0
        statement = function.body[-1] if at_end else list(statements(function))[mutation.statement][0]
        last = statement.end_lineno or statement.lineno
        failing[test] = Place(
            function.name,
            statement.lineno,
            last,
            mutation.raises,
            sure=mutation.rank in (SURE, TRUTH),
            cases=mutation.cases,
        )
    return MutatedFile(data, failing)
