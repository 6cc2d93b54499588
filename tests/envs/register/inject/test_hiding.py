"""Half of the failing test functions leave the policy's tree, and nothing else does."""

from __future__ import annotations

from pathlib import Path

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


def test_one_failing_function_stays_visible(library: Path):
    hidden = hide_half(read_tree(library), CLAMP, seed="a")
    assert hidden.tests == ()
    assert hidden.tree == read_tree(library)


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
