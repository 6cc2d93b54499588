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
    assert [*got.failing] == [f"{PATH}::{name}"]
    if name in ("test_word", "test_nested"):  # where a test may return before its end, it proves nothing
        return
    assert fails_in_its_place(got, f"{PATH}::{name}")


@pytest.mark.parametrize("seed", range(5))
def test_every_test_exists_once_under_its_own_name(seed: int) -> None:
    got = altered(*NAMES, seed=seed)
    assert got is not None and len(got.failing) == len(NAMES)
    was, now = (
        [node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
        for text in (SUITE, got.data)
    )
    assert was == now
    assert len(got.data.splitlines()) <= len(SUITE.splitlines()) + 2, (
        "only test_word and test_nested may grow"
    )


@pytest.mark.parametrize(
    ("statement", "becomes"),
    [
        ("assert double(2) == 4", "assert double(2) == #"),
        ("assert double(2) == -4", "assert double(2) == -#"),
        ("assert 4 == double(2)", "assert # == double(2)"),
        ("assert double(2) == [3, {'k': 4}]", r"assert double\(2\) == \[\d, {'\w': \d}\]"),
        ("assert double('') == ''", r"assert double\(''\) == '\w'"),
        ("assert double(b'a') == b'Aa'", r"assert double\(b'a'\) == b'[A-Z][a-z]'"),
        ("assert double(1) == []", r"assert double\(1\) == \[0\]"),
        ("assert double(1) == True", "assert double(1) == False"),
        ("assert double(1.5) == 3.0", r"assert double\(1.5\) == \d\.\d"),
        ("assert double(.1) == pytest.approx(0.2)", r"assert double\(.1\) == pytest.approx\(\d\.\d+\)"),
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
        (
            "self.assertRaises(KeyError, double, None)",
            r"self.assertRaises\((?!Key|Look)\w+Error, double, None\)",
        ),
    ],
)
def test_an_altered_statement_reads_like_an_ordinary_one(statement: str, becomes: str) -> None:
    for seed in range(4):
        got = altered("test_it", source=f"def test_it(self):\n    {statement}\n", seed=seed)
        assert got is not None
        line = got.data.decode().splitlines()[1].strip()
        pattern = becomes if "\\" in becomes else re.escape(becomes).replace(r"\#", r"\d+")
        assert re.fullmatch(pattern, line), line
        assert line != statement


NAMED = """import pytest

@pytest.mark.parametrize("one, total", [(1, 2), pytest.param(2, 4, id="two")])
def test_cases(one, total):
    assert double(one) == total

def test_variable():
    expected = [1, 2]
    found = double(1)
    assert expected == found

def test_error():
    with pytest.raises(ValueError, match="no"):
        double("no")

def test_used_twice(x=5):
    y = 4
    assert double(y) == y
"""


@pytest.mark.parametrize("seed", range(6))
def test_a_value_changes_where_it_is_written_so_that_readers_of_variables_see_it_too(seed: int) -> None:
    got = altered(
        "test_cases[1-2]", "test_cases[two]", "test_variable", "test_error", source=NAMED, seed=seed
    )
    assert got is not None
    text = got.data.decode()
    first, second = re.findall(r"\((?:1|pytest.param\(2), (\d+)", text.replace("pytest.param(2", "(1"))
    assert first != "2" and second != "4"
    assert "assert double(one) == total" in text and "assert expected == found" in text
    assert "expected = [1, 2]" not in text and re.search(r"expected = \[\d, \d\]", text)
    assert re.search(r"pytest.raises\((?!Value)\w+Error, match", text)
    places = {test.partition("::")[2]: place for test, place in got.failing.items()}
    assert all(place.sure for place in places.values())
    assert places["test_error"].raises and not places["test_variable"].raises
    lines = text.splitlines()
    assert lines[places["test_error"].first - 1].strip().startswith("with pytest.raises")
    assert places["test_error"].last == places["test_error"].first + 1


SHARED = """import pytest

CASES = [("a", "aa"), ("b", "bb")]

@pytest.mark.parametrize(("one", "two"), CASES)
def test_there(one, two):
    \"\"\"Words.\"\"\"
    assert double(one) == two

@pytest.mark.parametrize(("one", "two"), CASES)
def test_and_back(one, two):
    assert half(two) == one
"""


@pytest.mark.parametrize("seed", range(4))
def test_cases_that_tests_share_are_written_out_and_changed_for_one_test(seed: int) -> None:
    """So what a test hands to its parameters is consistent, wherever code under test looks it up."""
    got = altered("test_there[a-aa]", "test_there[b-bb]", source=SHARED, seed=seed)
    assert got is not None
    before, after = SHARED.splitlines(), got.data.decode().splitlines()
    (line,) = [number for number, text in enumerate(before) if text != after[number]]
    shown = re.fullmatch(r""".*, \[\("a", '(\w\w)'\), \("b", '(\w\w)'\)\]\)""", after[line])
    assert shown and shown[1] != "aa" and shown[2] != "bb"
    place = got.failing[f"{PATH}::test_there[b-bb]"]
    assert after[place.first - 1].strip() == "assert double(one) == two"
    assert place.sure and place.cases


def test_a_variable_that_is_an_argument_too_is_not_changed_where_it_is_written() -> None:
    got = altered("test_used_twice", source=NAMED)
    assert got is not None and b"y = 4\n" in got.data
    assert not got.failing[f"{PATH}::test_used_twice"].sure


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
    assert list(got.failing) == [f"{PATH}::test_order[1]", f"{PATH}::test_order[a[b]::c]"]
