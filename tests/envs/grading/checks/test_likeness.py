"""Sentinels import what the tests beside them do, as far as that brings no tests along."""

from __future__ import annotations

import ast
import random

import pytest

from envs.grading.checks.likeness import leading_imports
from envs.grading.checks.sentinels import plant
from envs.tasksets.trees import Tree, TreeFile

PATH = "tests/test_it.py"


def tree(tests: str) -> Tree:
    files = {"src/kettle/__init__.py": "", "cup.py": "", "tests/helper.py": "", PATH: tests}
    return {name: TreeFile(text.encode()) for name, text in files.items()}


BRINGS_TESTS = """from kettle import *
from . import helper
from .test_other import cup
from kettle.testing import cup
from kettle import TestCase
from kettle import test_all
import helper
"""


@pytest.mark.parametrize(
    ("tests", "lines", "names"),
    [
        ("from kettle import (\n    add,\n    pour as p,\n)\n", "from kettle import add, pour as p", "add p"),
        ('"""Words."""\nfrom __future__ import annotations\nimport kettle.lid, cup\n',
         "from __future__ import annotations|import kettle.lid, cup", "kettle cup"),
        ("import cup\ncup.fill()\nimport kettle\n", "import cup", "cup"),
        ("try:\n    import cup\nexcept ImportError:\n    cup = None\n", "", ""),
        (BRINGS_TESTS, "import helper", ""),
        ("def (", "", ""),
    ],
)  # fmt: skip
def test_the_imports_that_open_a_test_file_are_read(tests: str, lines: str, names: str) -> None:
    found = leading_imports(PATH, tree(tests))
    assert ("|".join(found.lines), " ".join(found.of_project)) == (lines, names)


@pytest.mark.parametrize("runner", ["pytest", "unittest"])
def test_canaries_name_what_is_the_projects_wherever_tests_do(runner: str) -> None:
    given = tree("from kettle import add\n")
    for seed in range(10):
        planted = plant(runner, [PATH], given, random.Random(seed))
        assert len(planted.files) == 2
        for file in planted.files.values():
            assert ast.unparse(ast.parse(file.data).body[0]) == "from kettle import add"
            assert file.data.count(b"[add, ") == 2


@pytest.mark.parametrize(
    ("runner", "tests", "theirs", "number"),
    [
        ("pytest", "def test_it(): ...\n", False, 9),
        ("pytest", "class TestIt(Base): ...\n", True, 13),
        ("unittest", "import helper\n", True, 4),
    ],
)
def test_canaries_are_of_unittests_kinds_where_the_tests_may_be(
    runner: str, tests: str, theirs: bool, number: int
) -> None:
    planted = plant(runner, [PATH], tree(tests), random.Random(1))
    assert len(planted.tests) == number
    assert ("a setUp that breaks" in {sentinel.kind for sentinel in planted.tests.values()}) == theirs


def test_canaries_lie_around_and_between_several_files() -> None:
    given = {path: TreeFile(b"") for path in ("tests/test_a.py", "tests/test_b.py", "more/test_c.py")}
    planted = plant("pytest", list(given), given, random.Random(1))
    assert [path in given for path in planted.targets].count(True) == 3
    first, *within, last = planted.targets
    assert {first, last}.isdisjoint(given) and {*within} - {*given} == {*planted.files} - {first, last}
    assert len(planted.files) == 3


def test_where_tests_import_nothing_of_the_project_canaries_do_not_either() -> None:
    planted = plant("pytest", [PATH], tree("import helper\n"), random.Random(1))
    assert {sentinel.kind for sentinel in planted.tests.values()}.isdisjoint(
        {"a value of the project among others"}
    )
    assert all(file.data.startswith(b"import helper\n") for file in planted.files.values())
