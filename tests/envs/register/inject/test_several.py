"""Several bugs at once: related, in different functions, each part used evenly; and bugs as such."""

from __future__ import annotations

from collections import Counter

import pytest

from envs.register.inject.bugs import SEVERAL, Bug
from envs.register.inject.mutate import Mutation
from envs.register.inject.probe import KEPT, Probe
from envs.register.inject.several import several
from envs.register.runtime.discover import Suite
from envs.tasksets.trees import TreeFile


def part(function: str, *failing: str, start: int = 0, path: str = "a.py", key: str = "") -> Probe:
    edit = Mutation("operator", path, 1, function, start, start + 1, "+", "-")
    return Probe(Bug.of(edit, keys=(key,) if key else ()), KEPT, failing=failing)


def suite(steps: dict[str, frozenset[str]] | None = None) -> Suite:
    return Suite(frozenset(), (), {}, 2, 1.0, {}, steps or {})


def together(parts: list[Probe], steps: dict[str, frozenset[str]] | None = None) -> set[frozenset[str]]:
    return {
        frozenset(place.partition("::")[2] for place in bug.places)
        for bug in several(parts, suite(steps), seed=0)
    }


def test_bugs_go_together_by_a_common_test_or_by_a_call():
    parts = [part("f", "t::1", "t::2"), part("g", "t::2", start=3)]
    parts += [part("h", "t::3", path="b.py"), part("i", "t::4", start=6)]
    assert together(parts) == {frozenset("fg")}
    assert together(parts, {"a.py::i": frozenset({"b.py::h"})}) == {frozenset("fg"), frozenset("hi")}


def test_bugs_in_one_function_or_in_one_inside_it_stay_apart():
    parts = [
        part("f", "t"),
        part("f", "t", start=5),
        part("f.inner", "t", start=9),
        part("flat", "t", start=12),
    ]
    assert together(parts) == {frozenset({"f", "flat"}), frozenset({"f.inner", "flat"})}


def test_parts_are_used_evenly_every_third_bug_has_three_places_and_keys_are_kept():
    parts = [part(f"f{number}", "t", start=3 * number, key=str(number)) for number in range(9)]
    found = list(several(parts, suite(), seed=1))[:9]
    assert [len(bug.edits) for bug in found] == [2, 2, 3] * 3
    assert max(Counter(place for bug in found for place in bug.places).values()) <= 3
    assert all(bug.kind == SEVERAL and len(bug.keys) == len(bug.edits) for bug in found)
    assert found == list(several(parts, suite(), seed=1))[:9] != list(several(parts, suite(), seed=2))[:9]


def test_edits_of_one_file_are_put_in_from_its_end_and_never_overlap():
    tree = {"a.py": TreeFile(b"one two three", executable=True), "b.py": TreeFile(b"four")}
    edits = (
        Mutation("k", "a.py", 1, "f", 0, 3, "one", "a longer one"),
        Mutation("k", "a.py", 1, "g", 8, 13, "three", ""),
        Mutation("k", "b.py", 1, "h", 0, 0, "", "not "),
    )
    bug = Bug(SEVERAL, edits)
    assert bug.files(tree) == {
        "a.py": TreeFile(b"a longer one two ", executable=True),
        "b.py": TreeFile(b"not four"),
    }
    assert bug.only(edits[2:]).files(tree) == {"b.py": TreeFile(b"not four")}
    with pytest.raises(AssertionError, match="overlap"):
        Bug(SEVERAL, (edits[0], Mutation("k", "a.py", 1, "g", 2, 5, "e t", "")))
