"""What is made of the runner's lines, and the runner itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from envs.testing import Frame, RunReport, read_report

NONCE = "f" * 32


def lines(*rows: dict[str, object], nonce: str = NONCE) -> bytes:
    return b"".join(json.dumps({"nonce": nonce, **row}).encode() + b"\n" for row in rows)


def passed(test: str) -> list[dict[str, object]]:
    return [
        {"kind": "phase", "id": test, "when": "call", "outcome": "passed"},
        {"kind": "finish", "id": test},
    ]


def test_only_one_clean_story_is_a_pass() -> None:
    report = read_report(lines(*passed("a"), {"kind": "end"}), NONCE)
    assert report.outcomes == {"a": "passed"}
    assert report.finished


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


def run_here(folder: Path, files: dict[str, str], *targets: str) -> RunReport:
    """Run the runner's real source in a process of this machine, as a sandbox would."""
    for name, text in files.items():
        (folder / name).write_text(text)
    source = (Path(__file__).parents[2] / "envs/runner.py").read_text()
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    request = {"nonce": NONCE, "targets": targets, "plugins": [], "paths": [str(folder)]}
    done = subprocess.run(
        [sys.executable, "-P", "-c", source],
        cwd=folder,
        input=json.dumps(request).encode(),
        env={**os.environ, "DAYTHREE_REPORT_FD": str(writing)},
        pass_fds=[writing],
        capture_output=True,
        timeout=60,
        check=False,
    )
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        return read_report(stream.read(), NONCE, log=done.stdout.decode())


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


def test_the_runner_reports_every_kind_of_outcome(tmp_path: Path) -> None:
    report = run_here(tmp_path, {"test_x.py": SUITE}, "test_x.py")
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
    assert failure.frames == (Frame("test_x.py", 5, "test_fails"), Frame("test_x.py", 6, "helper"))


def test_an_exit_from_within_leaves_the_rest_unfinished(tmp_path: Path) -> None:
    suite = "import os\ndef test_a(): pass\ndef test_b(): os._exit(0)\ndef test_c(): pass\n"
    report = run_here(tmp_path, {"test_x.py": suite}, "test_x.py")
    assert report.outcomes == {"test_x.py::test_a": "passed"}
    assert not report.finished


def test_a_file_that_cannot_be_collected_is_named(tmp_path: Path) -> None:
    report = run_here(tmp_path, {"test_x.py": "import nothing_like_it\n"}, "test_x.py")
    assert "nothing_like_it" in report.collect_errors["test_x.py"]
    assert not report.outcomes


def test_project_options_do_not_steer_the_run(tmp_path: Path) -> None:
    files = {"test_x.py": "def test_a(): assert False\n", "pytest.ini": "[pytest]\naddopts = --co -k none\n"}
    assert run_here(tmp_path, files, "test_x.py").outcomes == {"test_x.py::test_a": "failed"}
