"""A kept bug becomes a task: trees, patches, words, split."""

from __future__ import annotations

from pathlib import Path

import pytest

from envs.register.history.past import Past
from envs.register.inject.bugs import SEVERAL, Bug
from envs.register.inject.hiding import Hidden
from envs.register.inject.instructions import write_instruction
from envs.register.inject.mutate import find_mutations
from envs.register.inject.probe import KEPT, Probe
from envs.register.inject.tasks import bound_together, make_tasks
from envs.register.project.project import Project, read_project
from envs.register.project.sources import fetch_source
from envs.register.runtime.discover import Suite
from envs.tasksets.taskset import PullRequest
from envs.tasksets.trees import apply_patch, digest
from envs.testing.run import Failure, StackFrame
from envs.types import Task
from sandboxes import SandboxSpec

WORDS = "tests/test_words.py"
NUMBERS = "tests/test_numbers.py"
CLAMPED = tuple(f"{NUMBERS}::test_clamp[{case}]" for case in ("-1-0", "11-10", "5-5"))


@pytest.fixture
def project(library: Path) -> Project:
    return read_project(fetch_source(str(library)))


SPEC = SandboxSpec(image="daythree/x:1")


def bug_in(project: Project, function: str) -> Bug:
    path = "tinylib/numbers.py" if function in ("clamp", "total") else "tinylib/words.py"
    found = find_mutations(path, project.tree[path].data)
    return Bug.of(next(edit for edit in found if edit.function == function))


def kept(bug: Bug, failing: tuple[str, ...]) -> Probe:
    frames = (StackFrame(failing[0].split("::")[0], 8, "test"), StackFrame(bug.path, bug.line, bug.function))
    failures = {failing[0]: Failure("AssertionError", "assert 1 == 2\n + where 1", frames)}
    return Probe(
        bug, KEPT, (failing[0].split("::")[0],), failing, (f"{NUMBERS}::TestTotal::test_sum",), failures, 3.0
    )


def suite_of(calls: dict[str, frozenset[str]]) -> Suite:
    return Suite(frozenset(), (), {}, 2, 1.0, calls)


def one_task(project: Project, function: str, failing: tuple[str, ...]) -> Task:
    suite = suite_of({"tinylib/words.py::initials": frozenset({*failing, "tests/test_b.py::test_other"})})
    return make_tasks(project, [kept(bug_in(project, function), failing)], SPEC, suite)[0]


def test_the_base_tree_has_the_bug_and_lacks_the_hidden_tests(project: Project):
    task = one_task(project, "clamp", (*CLAMPED, f"{NUMBERS}::test_clamp_edges"))
    base = apply_patch(project.tree, task.base_patch)
    assert digest(base) == task.base_digest
    assert {path for path in base if base[path] != project.tree[path]} == {"tinylib/numbers.py", NUMBERS}
    assert task.hidden_tests
    assert set(task.hidden_tests) < set(task.fail_to_pass)
    assert all(test not in task.instruction for test in task.hidden_tests)


def test_the_reference_patch_undoes_the_bug_and_nothing_else(project: Project):
    task = one_task(project, "clamp", (*CLAMPED, f"{NUMBERS}::test_clamp_edges"))
    base = apply_patch(project.tree, task.base_patch)
    solved = apply_patch(base, task.reference_patch)
    assert solved["tinylib/numbers.py"] == project.tree["tinylib/numbers.py"]
    assert solved[NUMBERS] == base[NUMBERS] != project.tree[NUMBERS]


def test_ids_say_nothing_and_traits_say_it_all(project: Project):
    task = one_task(project, "initials", (f"{WORDS}::test_initials",))
    assert task.id == "tinylib-0001"
    assert task.traits["function"] == "initials"
    assert task.traits["path"] == "tinylib/words.py"
    assert task.traits["places"] == "tinylib/words.py::initials"
    assert (task.traits["failing"], task.traits["calling"]) == (1, 2)
    assert (task.traits["files"], task.traits["functions"], task.traits["lines"]) == (1, 1, 2)
    assert task.traits["distance"] == 0
    assert task.limits.test_s == 30.0
    assert task.hidden_tests == (f"{WORDS}::test_initials",)


def test_a_bug_in_two_files_is_undone_in_both_and_what_it_takes_back_is_withheld(project: Project):
    edits = (*bug_in(project, "clamp").edits, *bug_in(project, "initials").edits)
    bug = Bug(SEVERAL, edits, keys=("7",))
    failing = (*CLAMPED, f"{WORDS}::test_initials")
    told = [
        ("7", "Mend", ""),
        ("8", "Say more", ""),
        ("9", "Again", "Like #7."),
        ("10", "Tell", "if value < low:"),
    ]
    past = Past(tuple(PullRequest(key, title, "2026-01-01T00:00:00Z", body) for key, title, body in told))
    task = make_tasks(project, [kept(bug, failing)], SPEC, suite_of({}), past=past)[0]
    base = apply_patch(project.tree, task.base_patch)
    assert all(base[path] != project.tree[path] for path in bug.paths)
    solved = apply_patch(base, task.reference_patch)
    assert all(solved[path] == project.tree[path] for path in bug.paths)
    assert (task.traits["files"], task.traits["functions"]) == (2, 2)
    assert task.past == 4
    assert task.withheld == ("7", "9", "10"), "what it takes back, what names that, what holds its lines"


def test_functions_that_share_a_bug_or_lie_in_each_other_are_never_divided():
    bugs = [["a::f"], ["a::f", "b::g"], ["b::g"], ["c::C.m"], ["c::C.n"], ["d::f"], ["d::f.inner"]]
    assert bound_together(bugs) == ["a::f", "a::f", "a::f", "c::C.m", "c::C.n", "d::f", "d::f"]


def test_an_instruction_tells_what_was_seen_and_not_what_to_change():
    message = "bad <a at 0x7f1234567890>\nUse -v to get more diff" + "x" * 500
    failure = Failure("ValueError", message, (StackFrame("a.py", 20, "f"),) * 5)
    hidden = Hidden({}, (), {"a.py": (3, 4)})
    text = write_instruction(["t.py::a", "t.py::b", "t.py::c", "t.py::d"], {"t.py::b": failure}, hidden)
    lines = text.splitlines()
    assert lines[0].startswith("4 tests fail that passed before.")
    assert lines[2] == "t.py::b"
    assert lines[3].startswith("  ValueError: bad <a at 0x...> xxx")
    assert len(lines[3]) < 300
    assert lines[4:7] == ["  a.py:18 in f"] * 3
    assert lines[7:] == ["t.py::a", "t.py::c", "and 1 more"]


def test_one_failing_test_is_told_in_the_singular():
    assert write_instruction(["t.py::a"], {}, Hidden({}, (), {})).startswith(
        "A test fails that passed before."
    )


def test_a_failure_that_is_hidden_is_told_without_what_the_test_expects():
    hidden = Hidden({}, ("t.py::a", "t.py::b"), {})
    wrong = Failure("AssertionError", "assert 3 == 4711", (StackFrame("t.py", 2, "a"),))
    broken = Failure("KeyError", "'x'", (StackFrame("t.py", 5, "b"), StackFrame("m.py", 7, "find")))
    text = write_instruction([], {"t.py::a": wrong, "t.py::b": broken}, hidden)
    assert "4711" not in text and text.startswith("Tests that are not here fail")
    assert text.splitlines()[2:] == [
        "t.py::a", "  AssertionError", "t.py::b", "  KeyError: 'x'", "  m.py:7 in find",
    ]  # fmt: skip
