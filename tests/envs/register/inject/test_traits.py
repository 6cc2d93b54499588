"""How hard a task is, and which test files judge it."""

from __future__ import annotations

import pytest

from envs.register.inject.bugs import Bug
from envs.register.inject.mutate import Mutation
from envs.register.inject.traits import changed_lines, distance
from envs.register.runtime.discover import Suite
from envs.testing.run import Failure, StackFrame

BUG = Bug.of(Mutation("operator", "a.py", 3, "C.deep", 0, 1, "+", "-"))
STEPS = {
    "t.py::test_a": frozenset({"a.py::top"}),
    "a.py::top": frozenset({"a.py::top", "b.py::middle"}),
    "b.py::middle": frozenset({"a.py::C.deep"}),
}


def failed_in(*frames: tuple[str, str]) -> Failure:
    return Failure("AssertionError", "", tuple(StackFrame(path, 1, name) for path, name in frames))


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ([("t.py", "test_a"), ("a.py", "top"), ("a.py", "deep")], 0),
        ([("t.py", "test_a"), ("a.py", "deep"), ("b.py", "check"), ("b.py", "fail")], 2),
        ([("t.py", "test_a")], 3),
        ([("t.py", "test_a"), ("a.py", "top")], 2),
        ([("t.py", "test_b")], None),
        ([("b.py", "deep")], None),
        ([], None),
    ],
)
def test_distance_is_counted_in_calls_up_the_stack_or_down_to_the_bug(
    frames: list[tuple[str, str]], expected: int | None
):
    assert distance(failed_in(*frames), BUG, STEPS) == expected


def test_lines_that_look_like_headers_are_lines():
    patch = "diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1,2 +1,3 @@\n x\n--- y\n+++ z\n++ w\n"
    assert changed_lines(patch + patch) == 6
    assert changed_lines("") == 0


def suite(seconds: dict[str, float]) -> Suite:
    calls = {
        "a.py::f": frozenset({"t_near.py::test_1"}),
        "a.py::g": frozenset({"t_near.py::test_2", "t_quick.py::test_1", "t_slow.py::test_1"}),
        "b.py::h": frozenset({"t_other.py::test_1"}),
    }
    return Suite(frozenset(), (), {}, 2, 9.0, calls, {}, seconds)


def test_what_calls_the_function_judges_it_and_more_of_the_module_while_that_is_quick():
    timed = suite({"t_near.py": 1.0, "t_quick.py": 0.5, "t_slow.py": 0.6, "t_other.py": 0.1})
    assert timed.nearest_files(["a.py::f"]) == ("t_near.py",)
    assert timed.graded_files(["a.py::f"]) == ("t_near.py", "t_quick.py")
    assert timed.graded_files(["a.py::f", "b.py::h"]) == ("t_near.py", "t_other.py", "t_quick.py")
    assert timed.graded_files(["a.py::g"]) == ("t_near.py", "t_quick.py", "t_slow.py")


def test_files_whose_time_is_unknown_count_as_slow():
    assert suite({}).graded_files(["a.py::f"]) == ("t_near.py",)
