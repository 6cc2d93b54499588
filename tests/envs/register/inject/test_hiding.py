"""Half of the failing test functions leave the policy's tree, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import pytest

from envs.register.inject.hiding import function_of, hide_half
from envs.tasksets.trees import Tree, TreeFile, read_tree

CLAMP = [f"tests/test_numbers.py::test_clamp[{value}]" for value in ("-1-0", "5-5", "11-10")]


def test_half_of_the_functions_goes_with_all_their_cases(library: Path):
    tree = read_tree(library)
    failing = [
        *CLAMP,
        "tests/test_numbers.py::test_clamp_edges",
        "tests/test_numbers.py::TestTotal::test_sum",
    ]
    seen = set()
    for seed in "abcdefghij":
        hidden = hide_half(tree, failing, seed=seed)
        functions = {function_of(test) for test in hidden.tests}
        assert len(functions) == 1
        seen |= functions
        text = hidden.tree["tests/test_numbers.py"].data.decode()
        name = functions.pop().rpartition("::")[2]
        assert f"def {name}(" not in text
        assert text.count("def test_") == 5
        assert "@pytest.mark.parametrize" not in text or name != "test_clamp"
        assert hidden == hide_half(tree, failing, seed=seed)
        assert {path for path in tree if tree[path] != hidden.tree[path]} == {"tests/test_numbers.py"}
    assert len(seen) == 3


def test_lines_below_a_hidden_function_move_up(library: Path):
    tree = read_tree(library)
    path = "tests/test_numbers.py"
    failing = [*CLAMP, f"{path}::TestTotal::test_start"]
    hidden = next(
        found for seed in "abcdefgh" if (found := hide_half(tree, failing, seed=seed)).tests[0] in CLAMP
    )
    before, after = (files[path].data.decode().splitlines() for files in (tree, hidden.tree))
    line = next(number for number, text in enumerate(before, start=1) if "test_start" in text)
    assert after[hidden.line(path, line) - 1] == before[line - 1]
    assert hidden.line("other.py", 7) == 7


def test_half_of_the_failing_cases_of_one_function_go(library: Path):
    tree, path = read_tree(library), "tests/test_numbers.py"
    seen = set()
    for seed in "abcdefghijklmnopqrst":
        hidden = hide_half(tree, CLAMP, seed=seed)
        (left,) = set(CLAMP) - set(hidden.tests)
        cases = {"-1-0": "(-1, 0)", "5-5": "(5, 5)", "11-10": "(11, 10)"}
        shown = cases[left.partition("[")[2][:-1]]
        before, after = (files[path].data.decode() for files in (tree, hidden.tree))
        assert after == before.replace("[(-1, 0), (5, 5), (11, 10)]", f"[{shown}]")
        seen.add(shown)
    assert len(seen) == 3


LISTED = """import pytest

CASES = (
    ("one", "ones"),  # the first
    # of two
    ("bus", "buses"),
    ("ünder", "ünders"),

    ("day", "days")
)


class TestPlural:
    @pytest.mark.parametrize(("one", "many"), CASES)
    def test_plural(self, one, many):
        assert one != many


def test_below():
    pass
"""


def test_cases_of_a_variable_go_and_lines_below_move_up():
    tree: Tree = {"test_x.py": TreeFile(LISTED.encode())}
    ids = ["one-ones", "bus-buses", r"\xfcnder-\xfcnders", "day-days"]
    name, below = "test_x.py::TestPlural::test_plural", LISTED.splitlines().index("def test_below():") + 1
    for seed in "abcdefgh":
        hidden = hide_half(tree, [f"{name}[{case}]" for case in ids[1:]], seed=seed)
        text = hidden.tree["test_x.py"].data.decode()
        gone = {test.partition("[")[2][:-1].encode().decode("unicode_escape") for test in hidden.tests}
        assert len(gone) == 2
        for case in gone:
            assert f'("{case.partition("-")[0]}"' not in text
        assert text.count('", "') == 3, "two of four cases, and the names of the parameters"
        assert text.splitlines()[hidden.line("test_x.py", below) - 1] == "def test_below():"


@pytest.mark.parametrize(
    "text",
    [
        LISTED.replace("CASES)", "CASES, ids=str)"),
        LISTED.replace("CASES)", "[*CASES, ('a', 'b')])"),
        LISTED.replace('("bus"', '("one", "ones"), ("bus"'),
        LISTED.replace("class", "CASES += (('tree', 'trees'),)\n\n\nclass"),
        LISTED.replace('"day", "days"', "str, int"),
    ],
)
def test_lists_whose_ids_are_made_otherwise_stay(text: str):
    tree: Tree = {"test_x.py": TreeFile(text.encode())}
    cases = [f"test_x.py::TestPlural::test_plural[{case}]" for case in ("one-ones", "bus-buses")]
    hidden = hide_half(tree, cases, seed="a")
    assert (hidden.tests, hidden.tree) == ((), tree)


def test_the_only_failing_function_is_hidden_whole(library: Path):
    for failing in (CLAMP[:1], ["tests/test_numbers.py::test_clamp_edges"]):
        hidden = hide_half(read_tree(library), failing, seed="a")
        assert hidden.tests == tuple(failing)
        path, name = function_of(failing[0]).split("::")[0], function_of(failing[0]).split("::")[-1]
        assert f"def {name}(" not in hidden.tree[path].data.decode()


def test_functions_that_others_need_stay():
    text = (
        "class TestBase:\n    def test_a(self):\n        pass\n\n    def test_b(self):\n        pass\n\n\n"
        "class TestMore(TestBase):\n    pass\n\n\ndef test_c():\n    pass\n\n\ntest_c.slow = True\n\n\n"
        "class TestOne:\n    def test_only(self):\n        pass\n"
    )
    tree: Tree = {"test_x.py": TreeFile(text.encode())}
    names = ["TestBase::test_a", "TestBase::test_b", "TestMore::test_a", "test_c", "TestOne::test_only"]
    hidden = hide_half(tree, [f"test_x.py::{name}" for name in names], seed="a")
    assert hidden.tests == ()
    assert hidden.tree == tree
