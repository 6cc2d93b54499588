"""A failing test is hidden if the policy cannot read it as it is graded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from envs.register.proof.hidden import hidden_tests, hiding
from envs.tasksets.taskset import TaskSet
from envs.tasksets.trees import TreeFile

BASE = """import pytest

CASES = [1]


def test_kept():
    assert True


def test_changed():
    assert True


class TestMore:
    @pytest.mark.parametrize("case", CASES)
    def test_listed(self, case):
        assert case
"""
GRADED = BASE.replace("CASES = [1]", "CASES = [1, 2]").replace(
    "changed():\n    assert True", "changed():\n    assert 1"
)


@pytest.mark.parametrize(
    ("test", "hidden"),
    [
        ("test_x.py::test_kept", False),
        ("test_x.py::test_changed", True),
        ("test_x.py::test_new", True),
        ("test_x.py::TestMore::test_listed[2]", True),
        ("test_new.py::test_kept", True),
        ("test_same.py::test_changed", False),
    ],
)
def test_a_test_is_hidden_where_its_own_source_or_its_cases_differ(test: str, hidden: bool) -> None:
    same = {"test_same.py": TreeFile(BASE.encode())}
    base = {"test_x.py": TreeFile(BASE.encode()), **same}
    graded = {"test_x.py": TreeFile((GRADED + "\n\ndef test_new():\n    pass\n").encode()), **same}
    graded["test_new.py"] = TreeFile(BASE.encode())
    assert hidden_tests([test], base, graded) == ((test,) if hidden else ())


def test_tasks_are_counted_by_what_they_hide(calculator: TaskSet) -> None:
    task = replace(calculator.tasks[0], fail_to_pass=("a", "b"), hidden_tests=())
    tasks = [replace(task, hidden_tests=hidden) for hidden in ((), ("a",), ("a", "b"), ("b",))]
    assert hiding(tasks) == {"all": 1, "some": 2, "none": 1}
