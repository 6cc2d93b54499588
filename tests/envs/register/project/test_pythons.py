"""A commit gets the Python of its time."""

from __future__ import annotations

import pytest

from envs.register.project.pythons import allows, is_python2, preferred


@pytest.mark.parametrize(
    ("specifier", "allowed"),
    [
        ("", "3.9 3.11 3.13"),
        (">=3.10", "3.11 3.13"),
        (">=3.11.4", "3.11 3.13"),
        (">=2.7, !=3.0.*, !=3.11.*, <3.13", "3.9"),
        ("~=3.9", "3.9 3.11 3.13"),
        ("~=3.9.1", "3.9"),
        ("==3.*", "3.9 3.11 3.13"),
        ("==3.9.*", "3.9"),
        ("<3.11", "3.9"),
        ("<=3.9.1", "3.9"),
        (">=3.7,<4", "3.9 3.11 3.13"),
        ("<3", ""),
        ("nonsense", "3.9 3.11 3.13"),
        ("nonsense, <3.11", "3.9"),
        (">=3.11.*", "3.11 3.13"),
        ("===3.11", "3.11"),
        ("==3.11.2.*", "3.11"),
        ("<3.13.0a1", "3.9 3.11"),
    ],
)
def test_specifiers_admit_pythons(specifier: str, allowed: str):
    assert [python for python in ("3.9", "3.11", "3.13") if allows(specifier, python)] == allowed.split()


@pytest.mark.parametrize(
    ("specifier", "classifiers", "when", "order"),
    [
        ("", [], "2018-05-01T00:00:00Z", "3.9 3.11 3.13"),
        ("", [], "2022-05-01T00:00:00Z", "3.9 3.11 3.13"),
        ("", [], "2024-05-01T00:00:00Z", "3.11 3.9 3.13"),
        ("", [], "2026-05-01T00:00:00Z", "3.13 3.11 3.9"),
        ("", ["Programming Language :: Python :: 3.12"], "2026-05-01T00:00:00Z", "3.11 3.9 3.13"),
        (">=3.10", [], "2022-12-01T00:00:00+01:00", "3.11 3.13"),
        ("<3", [], "2026-05-01", ""),
    ],
)
def test_the_newest_that_was_a_year_old_comes_first(
    specifier: str, classifiers: list[str], when: str, order: str
):
    assert [base.python for base in preferred(specifier, classifiers, when)] == order.split()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import htmlentitydefs\n", True),
        ("from urllib2 import urlopen\n", True),
        ("def f(x):\n    print 'hello', x\n", True),
        ("try:\n    f()\nexcept ValueError, error:\n    pass\n", True),
        ("try:\n    import urllib2\nexcept ImportError:\n    import urllib.request as urllib2\n", False),
        ("def f(x) -> int:\n    print('hello')\n", False),
        ("def broken(:\n", False),
        ("\0", False),
    ],
)
def test_code_for_python_2_alone_is_told_from_code_for_both(source: str, expected: bool) -> None:
    assert is_python2([b"x = 1\n", source.encode()]) is expected
