"""An altered test fails where only we know for honest code, with nothing but plain Python in it."""

from __future__ import annotations

import ast
import random
import re
import unittest

import pytest

from envs.grading.checks.mutated_asserts import MutatedFile, mutate_asserts

SUITE = '''
import unittest

def double(x):
    return x * 2

def test_equation():
    """Words."""
    assert double(2) == 4, "doubling"
    assert 4 == double(2) and double("ä") == "ää"  # ünïcode

def test_order():
    assert double(1) < 3
    assert (
        double(3)
        >= 6
    )

def test_word():
    assert "b" in "abc"
    if double(0) == 0:
        return

def test_nested():
    for number in range(2):
        if number:
            assert double(number) == 2

class TestUnit(unittest.TestCase):
    def test_method(self):
        self.assertEqual(double(2), 4)
        self.assertListEqual(double([1]),
                             [1, 1], "twice")
        self.assertTrue(double(1) == 2)
    def test_more(self):
        self.assertEqual(double(3), 6)

def test_parameter(): assert True
'''
PATH = "tests/test_x.py"


def altered(*names: str, source: str = SUITE, seed: int = 7) -> MutatedFile | None:
    return mutate_asserts(PATH, source.encode(), [f"{PATH}::{name}" for name in names], random.Random(seed))


def called(got: MutatedFile, name: str) -> None:
    scope: dict[str, object] = {"__name__": "scope"}
    exec(compile(got.data, PATH, "exec"), scope)
    if "::" in name:
        kind, method = (scope.get(part, part) for part in name.split("::"))
        assert isinstance(kind, type) and issubclass(kind, unittest.TestCase)
        getattr(kind(str(method)), str(method))()
    else:
        scope[name]()  # pyright: ignore[reportCallIssue]


def fails_in_its_place(got: MutatedFile, test: str) -> bool:
    """Whether a test fails in the lines where it must; it must fail."""
    with pytest.raises(AssertionError) as failure:
        called(got, test.removeprefix(f"{PATH}::"))
    lines = [entry.lineno + 1 for entry in failure.traceback if str(entry.path).endswith(PATH)]
    return got.failing[test].first <= lines[0] <= got.failing[test].last


NAMES = (
    "test_equation",
    "test_order",
    "test_word",
    "test_nested",
    "TestUnit::test_method",
    "TestUnit::test_more",
)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", NAMES)
def test_honest_code_fails_where_it_was_altered_and_nowhere_else(name: str, seed: int) -> None:
    got = altered(name, seed=seed)
    assert got is not None
    assert len(got.failing) >= 2
    assert {place.of for place in got.failing.values()} == {f"{PATH}::{name}"}
    if name in ("test_word", "test_nested"):  # where a test may return before its end, it proves nothing
        return
    assert all(fails_in_its_place(got, test) for test in got.failing)


@pytest.mark.parametrize("name", NAMES)
def test_the_twin_is_the_test_as_it_was(name: str) -> None:
    got = altered(name)
    assert got is not None
    called(got, got.twins[f"{PATH}::{name}"].removeprefix(f"{PATH}::"))


def test_names_and_places_do_not_tell_the_twin_from_an_altered_test() -> None:
    places: set[int] = set()
    for seed in range(20):
        got = altered("test_equation", seed=seed)
        assert got is not None
        body = [node.name for node in ast.parse(got.data).body if isinstance(node, ast.FunctionDef)]
        mine = [name for name in body if name.startswith("test_equation")]
        assert mine[0] == "test_equation"
        places.add(mine.index(got.twins[f"{PATH}::test_equation"].removeprefix(f"{PATH}::")))
    assert len(places) > 1


@pytest.mark.parametrize(
    ("statement", "becomes"),
    [
        ("assert double(2) == 4", "assert double(2) == #"),
        ("assert 4 == double(2)", "assert # == double(2)"),
        ("assert double(2) == four", "assert double(2) == (four, #)"),
        ("assert double(1) < 3", "assert double(1) >= 3"),
        ("assert double(1) != 3", "assert double(1) == 3"),
        ("assert double(1) is not None", "assert double(1) is None"),
        ("assert double(1) is None", "assert double(1) is True"),
        ("assert double(1) not in (3, 4)", "assert double(1) in (3, 4)"),
        ("assert double(1)", "assert not (double(1))"),
        ("self.assertEqual(double(2), 4)", "self.assertEqual(double(2), #)"),
        ("self.assertEqual(four, double(2), msg='x')", "self.assertEqual((four, #), double(2), msg='x')"),
        ("self.assertListEqual(double(x), [4] + y)", "self.assertListEqual(double(x), [*([4] + y), #])"),
        ("self.assertDictEqual(double(x), y)", "self.assertDictEqual(double(x), {**y, 'more': #})"),
        ("self.assertIn(4, double(x))", "self.assertNotIn(4, double(x))"),
        ("self.assertTrue(double(x) == 4)", "self.assertTrue(double(x) == #)"),
        ("self.assertFalse(double(x))", "self.assertTrue(double(x))"),
    ],
)
def test_an_altered_statement_reads_like_an_ordinary_one(statement: str, becomes: str) -> None:
    got = altered("test_it", source=f"def test_it(self):\n    {statement}\n")
    assert got is not None
    line = got.data.decode().splitlines()[1].strip()
    assert re.sub(r"(?<=\W)\d+(?=\W|$)", "#", line) == re.sub(r"(?<=\W)\d+(?=\W|$)", "#", becomes)
    assert line != statement


@pytest.mark.parametrize("name", ["test_equation", "test_order", "TestUnit::test_more"])
def test_what_is_equal_to_everything_passes_altered_and_is_exposed(name: str) -> None:
    always = (
        "class Any:\n    def __eq__(self, other): return True\n"
        "    __lt__ = __gt__ = __le__ = __ge__ = __eq__\n\ndef double(x): return Any()\n"
    )
    got = altered(name, source=SUITE.replace("def double(x):\n    return x * 2\n", always))
    assert got is not None
    for test in got.failing:
        called(got, test.removeprefix(f"{PATH}::"))


def test_lines_before_the_end_of_the_first_altered_test_stay_where_they_are() -> None:
    got = altered("test_order")
    assert got is not None
    was, now = SUITE.splitlines(), got.data.decode().splitlines()
    copies = len(got.failing)
    assert len(now) == len(was) + 6 * copies
    assert [line.partition(" ")[0] for line in now[:16]] == [line.partition(" ")[0] for line in was[:16]]


@pytest.mark.parametrize("name", ["test_parameter", "test_missing", "TestUnit::test_missing", "TestUnit"])
def test_what_cannot_be_altered_is_left_out(name: str) -> None:
    assert altered(name) is None


@pytest.mark.parametrize(
    "source", ["def test_equation(:\n", "\ufeffdef test_equation():\n    assert 1\n", "\0"]
)
def test_a_file_that_cannot_be_read_is_left_out(source: str) -> None:
    assert altered("test_equation", source=source) is None


def test_parameters_share_their_function() -> None:
    got = altered("test_order[1]", "test_order[a[b]::c]")
    assert got is not None
    assert list(got.twins) == [f"{PATH}::test_order[1]", f"{PATH}::test_order[a[b]::c]"]
    assert {twin.partition("[")[2] for twin in got.twins.values()} == {"1]", "a[b]::c]"}
