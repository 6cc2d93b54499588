"""An altered test fails at its end for honest code, with nothing but plain Python in it."""

from __future__ import annotations

import ast
import random
import unittest

import pytest

from envs.integrity.altering import Altered, alter

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

class TestUnit(unittest.TestCase):
    def test_method(self):
        self.assertEqual(double(2), 4)
        self.assertListEqual(double([1]),
                             [1, 1], "twice")
        self.assertTrue(double(1) == 2)

def test_parameter(): assert True
'''
PATH = "tests/test_x.py"


def altered(*names: str, source: str = SUITE) -> Altered | None:
    return alter(PATH, source.encode(), [f"{PATH}::{name}" for name in names], random.Random(7))


def called(got: Altered, name: str) -> None:
    scope: dict[str, object] = {"__name__": "scope"}
    exec(compile(got.data, PATH, "exec"), scope)
    if "::" in name:
        kind, method = (scope.get(part, part) for part in name.split("::"))
        assert isinstance(kind, type) and issubclass(kind, unittest.TestCase)
        getattr(kind(str(method)), str(method))()
    else:
        scope[name]()  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("name", ["test_equation", "test_order", "TestUnit::test_method"])
def test_honest_code_fails_at_the_end_and_says_the_token(name: str) -> None:
    got = altered(name)
    assert got is not None
    with pytest.raises(AssertionError) as failure:
        called(got, name)
    assert got.token in str(failure.value)


@pytest.mark.parametrize("name", ["test_equation", "test_order", "test_word", "TestUnit::test_method"])
def test_the_twin_is_the_test_as_it_was(name: str) -> None:
    got = altered(name)
    assert got is not None
    called(got, got.twins[f"{PATH}::{name}"].removeprefix(f"{PATH}::"))


def test_every_comparison_asks_for_something_else() -> None:
    got = altered("test_equation", "test_order", "test_word", "TestUnit::test_method")
    assert got is not None
    text = got.data.decode()
    assert text.count("(2) == 4") == text.count("4 == double") == 1  # in the twin
    assert text.count("not (") == 7
    assert text.count("self.assertFalse(") == 2
    assert "double(1) >= 3" in text
    assert len(got.twins) == 4
    assert ast.get_docstring(ast.parse(got.data).body[2]) == "Words."  # pyright: ignore[reportArgumentType]


def test_a_test_that_returns_before_its_end_passes_altered_and_so_proves_nothing() -> None:
    got = altered("test_word")
    assert got is not None
    called(got, "test_word")


def test_what_is_equal_to_everything_fails_before_the_end() -> None:
    always = "class Any:\n    def __eq__(self, other): return True\n\ndef double(x): return Any()\n"
    got = altered("test_equation", source=SUITE.replace("def double(x):\n    return x * 2\n", always))
    assert got is not None
    with pytest.raises(AssertionError) as failure:
        called(got, "test_equation")
    assert got.token not in str(failure.value)


def test_lines_before_the_end_of_the_first_altered_test_stay_where_they_are() -> None:
    got = altered("test_order")
    assert got is not None
    was, now = SUITE.splitlines(), got.data.decode().splitlines()
    assert len(now) == len(was) + 7
    assert [line.count("\t") + line.strip().startswith("def") for line in now[:16]] == [
        line.count("\t") + line.strip().startswith("def") for line in was[:16]
    ]


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
