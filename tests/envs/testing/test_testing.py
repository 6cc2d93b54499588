"""What is made of the runner's lines, and the runner itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

import pytest

from envs.tasksets.trees import TreeFile, pack
from envs.testing.run import RunnerSetup, RunReport, StackFrame, kept_options, read_report, run_tests
from sandboxes import Backend, ImageRecipe, SandboxSpec

NONCE = "f" * 32


def lines(*rows: Mapping[str, object], nonce: str = NONCE) -> bytes:
    numbered = [{"nonce": nonce, "n": number, "t": 0.0, **row} for number, row in enumerate(rows)]
    return b"".join(json.dumps(row).encode() + b"\n" for row in numbered)


def passed(test: str) -> list[dict[str, object]]:
    return [
        {"kind": "start", "id": test},
        {"kind": "phase", "id": test, "when": "call", "outcome": "passed"},
        {"kind": "finish", "id": test},
    ]


def test_only_one_clean_story_is_a_pass() -> None:
    opening = [{"kind": "session"}, {"kind": "collected", "ids": ["a"]}]
    report = read_report(lines(*opening, *passed("a"), {"kind": "end", "status": 0}), NONCE)
    assert report.outcomes == {"a": "passed"}
    assert report.finished
    assert not report.irregular


def test_lines_without_the_nonce_and_torn_lines_count_for_nothing() -> None:
    forged = lines(*passed("a"), {"kind": "end"}, nonce="0" * 32)
    torn = lines(*passed("b"))[:-5]
    report = read_report(forged + torn + b"\n\xff\n[1]\n", NONCE)
    assert report.outcomes == {"b": "unfinished"}
    assert not report.finished


def test_a_test_reported_twice_says_nothing() -> None:
    assert read_report(lines(*passed("a"), *passed("a")), NONCE).outcomes == {"a": "duplicate"}


@pytest.mark.parametrize(
    ("phases", "outcome"),
    [
        ([("setup", "failed")], "error"),
        ([("setup", "skipped")], "skipped"),
        ([("call", "failed")], "failed"),
        ([("call", "xfailed")], "xfailed"),
        ([("call", "xpassed")], "xpassed"),
        ([("call", "passed"), ("teardown", "failed")], "error"),
        ([], "unfinished"),
    ],
)
def test_outcomes_by_phase(phases: list[tuple[str, str]], outcome: str) -> None:
    rows = [{"kind": "phase", "id": "a", "when": when, "outcome": got} for when, got in phases]
    assert read_report(lines(*rows, {"kind": "finish", "id": "a"}), NONCE).outcomes == {"a": outcome}


Program = Callable[..., tuple[bytes, str]]
Run = Callable[..., RunReport]


@pytest.fixture
def run_here(run_program: Program) -> Run:
    """Run files of a tree with pytest: `run_here(files, *targets, options=…)`."""

    def run(files: Mapping[str, str], *targets: str, options: Sequence[str] = ()) -> RunReport:
        data, log = run_program("pytest_program.py", files, targets=targets, options=options)
        return read_report(data, "nonce", log=log)

    return run


SUITE = """
import os, pytest, unittest

def test_passes(): pass
def test_fails(): helper(1)
def helper(x): assert x == 2, "not two"
@pytest.mark.skip
def test_skips(): pass
@pytest.mark.xfail
def test_xfails(): assert False
@pytest.mark.parametrize("x", ["a b", "ü[1]"])
def test_odd_names(x): pass
@pytest.fixture
def broken(): raise RuntimeError("no")
def test_errors(broken): pass
def test_cannot_find_the_channel(): assert "DAYTHREE_REPORT_FD" not in os.environ
class TestOld(unittest.TestCase):
    def test_unit(self): self.assertTrue(True)
"""


def test_the_runner_reports_every_kind_of_outcome(run_here: Run) -> None:
    report = run_here({"test_x.py": SUITE}, "test_x.py")
    outcomes = {test.partition("::")[2]: outcome for test, outcome in report.outcomes.items()}
    assert outcomes.pop("test_odd_names[a b]") == "passed"
    odd = [outcome for test, outcome in outcomes.items() if test.startswith("test_odd_names")]
    assert odd == ["passed"]
    assert outcomes["test_passes"] == outcomes["TestOld::test_unit"] == "passed"
    assert outcomes["test_cannot_find_the_channel"] == "passed"
    assert outcomes["test_fails"] == "failed"
    assert outcomes["test_skips"] == "skipped"
    assert outcomes["test_xfails"] == "xfailed"
    assert outcomes["test_errors"] == "error"
    assert report.finished
    failure = report.failures["test_x.py::test_fails"]
    assert failure.error == "AssertionError"
    assert failure.message.startswith("not two")
    assert failure.frames == (StackFrame("test_x.py", 5, "test_fails"), StackFrame("test_x.py", 6, "helper"))


def test_an_exit_from_within_leaves_the_rest_unfinished(run_here: Run) -> None:
    suite = "import os\ndef test_a(): pass\ndef test_b(): os._exit(0)\ndef test_c(): pass\n"
    report = run_here({"test_x.py": suite}, "test_x.py")
    assert report.outcomes == {"test_x.py::test_a": "passed"}
    assert not report.finished


def test_a_file_that_cannot_be_collected_is_named(run_here: Run) -> None:
    report = run_here({"test_x.py": "import nothing_like_it\n"}, "test_x.py")
    assert "nothing_like_it" in report.collect_errors["test_x.py"]
    assert not report.outcomes


def test_project_options_do_not_steer_the_run(run_here: Run) -> None:
    files = {"test_x.py": "def test_a(): assert False\n", "pytest.ini": "[pytest]\naddopts = --co -k none\n"}
    assert run_here(files, "test_x.py").outcomes == {"test_x.py::test_a": "failed"}


STRICT = """[pytest]
addopts = --cov=x -n auto --strict-markers --strict-config
required_plugins = pytest-cov pytest-xdist>=1
asyncio_mode = auto
strict_markers = true
strict_config = true
filterwarnings = error
"""
MARKED = "import pytest\n@pytest.mark.unheard_of\ndef test_a(): pass\n"


def test_settings_and_marks_of_plugins_that_are_not_loaded_do_no_harm(run_here: Run) -> None:
    report = run_here({"tests/test_x.py": MARKED, "tox.ini": STRICT}, "tests/test_x.py")
    assert report.outcomes == {"tests/test_x.py::test_a": "passed"}, report.log


def test_files_of_the_tree_do_not_stand_in_for_modules_of_the_runner(run_here: Run) -> None:
    shadows = dict.fromkeys(["json.py", "linecache.py", "pdb.py", "pytest.py"], "raise SystemExit(0)\n")
    shadows["_pytest/__init__.py"] = shadows["pytest.py"]
    files = {"test_x.py": "def test_a(): pass\ndef test_b(): assert 0\n", **shadows}
    report = run_here(files, "test_x.py")
    assert report.outcomes == {"test_x.py::test_a": "passed", "test_x.py::test_b": "failed"}


def test_a_library_that_pytest_uses_is_tested_as_it_is_in_the_tree(run_here: Run) -> None:
    tests = "import pluggy, subprocess, sys\ndef test_a(): assert pluggy.HERE == 1\n"
    child = (
        "def test_b(tmp_path): subprocess.run([sys.executable, '-m', 'pluggy'], cwd=tmp_path, check=True)\n"
    )
    files = {"pluggy/__init__.py": "HERE = 1\n", "pluggy/__main__.py": "", "test_x.py": tests + child}
    assert set(run_here(files, "test_x.py").outcomes.values()) == {"passed"}


def test_one_failed_subtest_fails_the_test_and_passing_ones_are_no_duplicates(run_here: Run) -> None:
    test = "        for i in range(3):\n            with self.subTest(i=i): self.assertLess(i, {0})\n"
    suite = "import unittest\nclass TestA(unittest.TestCase):\n"
    suite += "".join(f"    def test_{limit}(self):\n{test.format(limit)}" for limit in (2, 3))
    outcomes = run_here({"test_x.py": suite}, "test_x.py").outcomes
    assert outcomes == {"test_x.py::TestA::test_2": "failed", "test_x.py::TestA::test_3": "passed"}


def test_options_that_decide_what_a_test_is_are_kept(run_here: Run) -> None:
    options = kept_options("-ra --cov=lib -n auto --doctest-modules --import-mode importlib -k 'not x")
    assert options == ("--doctest-modules", "--import-mode=importlib")
    lib = 'def one():\n    """\n    >>> one()\n    1\n    """\n    return 2\n'
    report = run_here({"lib.py": lib}, "lib.py", options=options)
    assert report.outcomes == {"lib.py::lib.one": "failed"}


@pytest.mark.bubblewrap
def test_an_old_pytest_gives_the_same_report(bubblewrap_backend: Backend) -> None:
    pins = ("attrs==22.2.0", "iniconfig==2.0.0", "packaging==23.0", "pluggy==0.13.1", "py==1.11.0")
    recipe = ImageRecipe("old-pytest", (*pins, "pytest==6.2.5", "toml==0.10.2"))
    image = bubblewrap_backend.ensure_image(recipe, timeout_s=300)
    tree = {"test_x.py": TreeFile(SUITE.encode()), "tox.ini": TreeFile(STRICT.encode())}
    sandbox = bubblewrap_backend.open(SandboxSpec(image), timeout_s=60)
    try:
        sandbox.unpack(pack(tree), ".", timeout_s=30)
        report = run_tests(sandbox, RunnerSetup(), ["test_x.py"], timeout_s=60)
    finally:
        sandbox.close()
    assert report.summary == "1 error, 1 failed, 5 passed, 1 skipped, 1 xfailed", report.log
    assert report.failures["test_x.py::test_fails"].frames[-1] == StackFrame("test_x.py", 6, "helper")
