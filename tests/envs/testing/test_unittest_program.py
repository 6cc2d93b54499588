"""The unittest program tells what happened to each test, with the ids that pytest would give."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from envs.tasksets.trees import TreeFile, pack
from envs.testing.run import RunnerSetup, RunReport, StackFrame, read_report, run_tests
from sandboxes import Backend, SandboxSpec

Program = Callable[..., tuple[bytes, str]]
Run = Callable[..., RunReport]

SUITE = """
import unittest

class Plain(unittest.TestCase):
    def test_passes(self): pass
    def test_fails(self): helper(1)
    def test_raises(self): raise KeyError("x")
    def test_skips(self): self.skipTest("not now")
    @unittest.expectedFailure
    def test_is_known_to_fail(self): self.fail()
    @unittest.expectedFailure
    def test_passes_unexpectedly(self): pass
    def test_cleanup(self): self.addCleanup(lambda: 1 / 0)
    def test_subtest_fails(self):
        for i in range(3):
            with self.subTest(i=i): self.assertLess(i, 2)
    def test_subtests_pass(self):
        for i in range(3):
            with self.subTest(i=i): pass

def helper(x): assert x == 2, "not two"

class TearDown(unittest.TestCase):
    def tearDown(self): raise ValueError
    def test_passes(self): pass
    def test_fails(self): self.fail()

class SetUpClass(unittest.TestCase):
    @classmethod
    def setUpClass(cls): raise ValueError("no class")
    def test_one(self): pass
    def test_two(self): pass

class SkippedInSetUp(unittest.TestCase):
    @classmethod
    def setUpClass(cls): raise unittest.SkipTest("not here")
    def test_one(self): pass

class TearDownClass(unittest.TestCase):
    @classmethod
    def tearDownClass(cls): raise ValueError
    def test_one(self): pass
    def test_two(self): pass

@unittest.skip("all of it")
class Skipped(unittest.TestCase):
    def test_one(self): pass

class Waiting(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self): self.ready = True
    async def test_passes(self): self.assertTrue(self.ready)
    async def test_fails(self): self.assertFalse(self.ready)

def made():
    class Case(unittest.TestCase):
        def test_one(self): pass
    return Case

First, Second = made(), made()
"""


@pytest.fixture
def run_unittest(run_program: Program) -> Run:
    """Run files of a tree with unittest: `run_unittest(files, *targets)`."""

    def run(files: Mapping[str, str], *targets: str) -> RunReport:
        data, log = run_program("unittest_program.py", files, targets=targets)
        return read_report(data, "nonce", log=log)

    return run


def test_ids_and_outcomes_are_those_of_pytest(run_unittest: Run, run_program: Program) -> None:
    report = run_unittest({"tests/test_x.py": SUITE}, "tests/test_x.py")
    data, _ = run_program("pytest_program.py", {}, targets=["tests/test_x.py"])
    assert report.outcomes == read_report(data, "nonce").outcomes
    assert report.summary == "3 error, 8 failed, 6 passed, 3 skipped, 1 xfailed"
    assert report.finished
    failure = report.failures["tests/test_x.py::Plain::test_fails"]
    assert failure.error == "AssertionError"
    assert failure.message == "not two"
    assert [frame.function for frame in failure.frames] == ["test_fails", "helper"]


def test_a_module_set_up_that_fails_is_told_of_every_test(run_unittest: Run) -> None:
    suite = "import unittest\ndef setUpModule(): raise OSError('gone')\n"
    suite += "class A(unittest.TestCase):\n    def test_a(self): pass\n    def test_b(self): pass\n"
    report = run_unittest({"test_x.py": suite}, "test_x.py")
    assert report.outcomes == {"test_x.py::A::test_a": "error", "test_x.py::A::test_b": "error"}
    assert report.failures["test_x.py::A::test_a"].frames == (StackFrame("test_x.py", 2, "setUpModule"),)


def test_files_ids_and_folders_can_be_asked_for(run_unittest: Run) -> None:
    suite = "import unittest\nfrom tests.base import Base\nclass A(Base):\n    def test_a(self): pass\n"
    suite += "class B(unittest.TestCase):\n    def test_b(self): pass\n    def test_bb(self): pass\n"
    files = {
        "tests/__init__.py": "",
        "tests/base.py": "import unittest\nclass Base(unittest.TestCase): pass\n",
        "tests/unit/__init__.py": "",
        "tests/unit/test_x.py": suite,
    }
    everything = {f"tests/unit/test_x.py::{name}" for name in ("A::test_a", "B::test_b", "B::test_bb")}
    assert set(run_unittest(files, "tests").outcomes) == everything
    assert set(run_unittest(files).outcomes) == everything
    assert set(run_unittest(files, "tests/unit/test_x.py").outcomes) == everything
    chosen = run_unittest(files, "tests/unit/test_x.py::B::test_b", "tests/unit/test_x.py::A")
    assert set(chosen.outcomes) == everything - {"tests/unit/test_x.py::B::test_bb"}


def test_load_tests_is_asked_and_its_doctests_have_ids(run_unittest: Run) -> None:
    tests = "import doctest, lib\ndef load_tests(loader, tests, pattern):\n"
    tests += "    tests.addTests(doctest.DocTestSuite(lib))\n    return tests\n"
    lib = 'def one():\n    """\n    >>> one()\n    1\n    """\n    return 2\n'
    report = run_unittest({"lib.py": lib, "test_x.py": tests}, "test_x.py")
    assert report.outcomes == {"test_x.py::lib.one": "failed"}


def test_a_file_that_cannot_be_loaded_is_named_and_the_rest_goes_on(run_unittest: Run) -> None:
    good = "import unittest\nclass A(unittest.TestCase):\n    def test_a(self): pass\n"
    files = {
        "test_a.py": "import nothing_like_it\n",
        "test_b.py": "import sys; sys.exit(0)\n",
        "test_c.py": "def load_tests(*_): raise ValueError('broken')\n" + good,
        "test_d.py": good,
    }
    report = run_unittest(files, *files)
    assert report.outcomes == {"test_d.py::A::test_a": "passed"}
    assert sorted(report.collect_errors) == ["test_a.py", "test_b.py", "test_c.py"]
    assert "nothing_like_it" in report.collect_errors["test_a.py"]


def test_an_exit_from_within_leaves_the_rest_unfinished(run_unittest: Run) -> None:
    suite = "import os, unittest\nclass A(unittest.TestCase):\n"
    suite += "    def test_a(self): pass\n    def test_b(self): os._exit(0)\n    def test_c(self): pass\n"
    report = run_unittest({"test_x.py": suite}, "test_x.py")
    assert report.outcomes == {"test_x.py::A::test_a": "passed"}
    assert not report.finished


@pytest.mark.bubblewrap
def test_a_sandbox_runs_unittest_where_there_is_no_pytest(
    bubblewrap_backend: Backend, bubblewrap_image: str
) -> None:
    sandbox = bubblewrap_backend.open(SandboxSpec(bubblewrap_image), timeout_s=60)
    try:
        sandbox.unpack(pack({"tests/test_x.py": TreeFile(SUITE.encode())}), ".", timeout_s=30)
        report = run_tests(sandbox, RunnerSetup("unittest"), ["tests/test_x.py"], timeout_s=60)
    finally:
        sandbox.close()
    assert report.outcomes["tests/test_x.py::Plain::test_passes"] == "passed"
    assert report.outcomes["tests/test_x.py::Plain::test_fails"] == "failed"
