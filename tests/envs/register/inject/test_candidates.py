"""Bugs are tried so that no function and no kind dominates."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from envs.register.inject.bugs import Bug
from envs.register.inject.candidates import candidates, spread
from envs.register.inject.kinds import BODY, EDIT, REVERT
from envs.register.inject.mutate import Mutation
from envs.register.project.project import read_project
from envs.register.project.sources import fetch_source
from envs.register.runtime.discover import Suite


def bug(function: str, kind: str, number: int) -> Bug:
    return Bug.of(Mutation(kind, "a.py", 1, function, number, number, "", str(number)))


def test_functions_take_turns_and_kinds_stay_even():
    many = [bug("big", kind, 10 * index + at) for index, kind in enumerate("abcd") for at in range(10)]
    few = [bug(name, kind, 1) for name in ("one", "two", "three") for kind in "ab"]
    order = list(spread(many + few, seed=1))
    assert sorted(map(repr, order)) == sorted(map(repr, many + few))
    assert {tried.function for tried in order[:4]} == {"big", "one", "two", "three"}
    assert max(Counter(tried.kind for tried in order[:8]).values()) <= 4
    assert order == list(spread(many + few, seed=1)) != list(spread(many + few, seed=2))


def test_only_functions_that_a_stable_test_calls_get_bugs_and_no_program_comes_twice(library: Path):
    project = read_project(fetch_source(str(library)))
    calls = {"tinylib/words.py::initials": frozenset({"tests/test_words.py::test_initials"})}
    suite = Suite(frozenset({"tests/test_words.py::test_initials"}), (), {}, 2, 0.1, calls)
    found = candidates(project, suite, seed=0)
    edits = list(found[EDIT])
    assert edits
    assert {edit.function for edit in edits} == {"initials"}
    assert len({edit.files(project.tree)[edit.path].data for edit in edits}) == len(edits)
    assert [removal.function for removal in found[BODY]] == ["initials"]
    assert list(found[REVERT]) == []
