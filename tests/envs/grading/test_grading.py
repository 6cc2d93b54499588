"""What travels, what is tampering, and how outcomes become a verdict. The rules only; no sandbox."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pytest
from pydantic import TypeAdapter

from envs.grading import grade as grading
from envs.grading.grade import grade, graded_tree, noted
from envs.grading.run import sandbox_spec
from envs.grading.submission import SUBMISSION_BYTES, Submission, admit, lay_trusted, submission_of
from envs.grading.verdict import decide
from envs.tasksets.taskset import TaskSet
from envs.tasksets.trees import TreeFile, apply_patch
from envs.testing.run import RunReport
from envs.types import Task, Verdict
from sandboxes.base import TreeChanges
from sandboxes.fake import FakeBackend

CODE = "calculator/__init__.py"
TESTS = "tests/test_calculator.py"


@pytest.fixture
def task(calculator: TaskSet) -> Task:
    return calculator.tasks[0]


def submit(calculator: TaskSet, task: Task, **changes: object) -> Submission:
    return admit(TreeChanges(**changes), calculator, task)  # pyright: ignore[reportArgumentType]


def test_an_honest_change_travels_as_text(calculator: TaskSet, task: Task) -> None:
    got = submit(calculator, task, written={CODE: b"x = 1\n"})
    assert got.tree[CODE].data == b"x = 1\n"
    assert apply_patch(calculator.base_tree(task), got.patch) == got.tree
    assert not got.put_back
    assert not got.dropped


@pytest.mark.parametrize(
    "path",
    [
        "conftest.py",
        "tests/conftest.py",
        "pytest.ini",
        "tox.ini",
        "calculator/sitecustomize.py",
        "sitecustomize/__init__.py",
        ".travis.yml",
        "setup.py",
        "pyproject.toml",
        ".github/workflows/ci.yml",
        TESTS,
    ],
)
def test_what_steers_the_tests_is_put_back(calculator: TaskSet, task: Task, path: str) -> None:
    base = calculator.base_tree(task)
    got = submit(calculator, task, written={path: b"import os\n"})
    assert got.tree == base
    assert len(got.put_back) == 1
    assert got.put_back[0].startswith(path)


def test_a_removed_test_is_put_back(calculator: TaskSet, task: Task) -> None:
    assert submit(calculator, task, removed=(TESTS,)).put_back


def test_a_test_that_became_a_link_is_put_back_and_other_links_are_dropped(
    calculator: TaskSet, task: Task
) -> None:
    assert submit(calculator, task, skipped={TESTS: "symlink"}).put_back
    got = submit(calculator, task, skipped={"link": "symlink"})
    assert got.dropped
    assert not got.put_back


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("calculator/fast.so", b"x"),
        ("calculator/x.pyc", b"x"),
        ("evil.pth", b"import os"),
        ("calculator/__pycache__/x.py", b"x"),
        ("calculator/./x.py", b"x"),
        (".hypothesis/examples/x", b"x"),
        ("evil.dist-info/entry_points.txt", b"[pytest11]\n"),
        ("calculator/built", b"\x7fELF\2\1\1"),
        ("tests/test_own.py", b"def test_x(): pass\n"),
    ],
)
def test_what_is_no_source_does_not_travel(calculator: TaskSet, task: Task, path: str, data: bytes) -> None:
    got = submit(calculator, task, written={path: data})
    assert got.tree == calculator.base_tree(task)
    assert got.dropped
    assert not got.put_back


@pytest.mark.parametrize(
    "path", ["hypothesis.py", "pytest.py", "json/__init__.py", "pluggy/__init__.py", "py.py"]
)
def test_what_would_be_imported_in_place_of_an_installed_module_does_not_travel(
    calculator: TaskSet, task: Task, path: str
) -> None:
    got = submit(calculator, task, written={path: b"def given(*_): return lambda test: lambda: None\n"})
    assert (path in got.tree) == (path == "hypothesis.py")  # that one is not installed in this environment
    assert not got.put_back


def test_files_give_way_to_the_folders_of_what_stays_and_of_trusted_files(
    calculator: TaskSet, task: Task
) -> None:
    got = submit(calculator, task, written={"tests": b"x\n"}, removed=(TESTS,))
    assert got.put_back
    assert "tests: a folder of that name is there" in got.dropped
    assert graded_tree(got, calculator, task)[TESTS].data
    trusted = {"new/test_x.py": TreeFile(b""), "setup.cfg": TreeFile(b"")}
    laid = lay_trusted({"new": TreeFile(b""), "setup.cfg/x": TreeFile(b""), "a": TreeFile(b"")}, trusted, ())
    assert laid.keys() == {"new/test_x.py", "setup.cfg", "a"}


def test_more_than_a_submission_may_hold_does_not_travel(calculator: TaskSet, task: Task) -> None:
    written = {"README.md": b"#" * (SUBMISSION_BYTES + 1), "a.py": b"#" * SUBMISSION_BYTES, "b.txt": b"#"}
    got = submit(calculator, task, written=written)
    assert "b.txt" in got.tree, "what is dropped takes no room"
    assert [line.partition(":")[0] for line in got.dropped] == ["README.md", "a.py"]


def test_the_order_of_names_decides_nothing(calculator: TaskSet, task: Task) -> None:
    logs = {f"a{number}.log": b"#" * (1 << 20) for number in range(8)}
    got = submit(calculator, task, written={**logs, "z.py": b"x = 1\n"})
    assert "z.py" in got.tree
    assert [line.partition(":")[0] for line in got.dropped] == ["a7.log"]


def test_bytes_of_any_kind_and_execute_bits_travel(calculator: TaskSet, task: Task) -> None:
    written = {
        "logo.png": b"\x89PNG\0\xff",
        "calculator/old.py": b"# coding: latin-1\n# caf\xe9\n",
        "wide.txt": "ü\n".encode("utf-16"),
        "README.md": b"\0",
    }
    base = calculator.base_tree(task)
    changes = TreeChanges(written, frozenset({"wide.txt", "calculator/__init__.py"}))
    got = admit(changes, calculator, task)
    assert {path: got.tree[path].data for path in written} == written and not got.left_out
    assert got.tree["wide.txt"].executable and got.tree["calculator/__init__.py"].executable
    assert apply_patch(base, got.patch) == got.tree


def test_changes_of_files_that_existed_go_before_new_ones(calculator: TaskSet, task: Task) -> None:
    big = b"#" * (SUBMISSION_BYTES - 10)
    got = submit(calculator, task, written={"a.py": big, CODE: b"x = 1\n" * 5})
    assert got.tree[CODE].data == b"x = 1\n" * 5
    assert [line.partition(":")[0] for line in got.dropped] == ["a.py"]


@pytest.mark.parametrize(
    ("path", "travels"),
    [
        ("calculator/test_utils.py", True),
        ("calculator/testdata/words.txt", True),
        ("calculator/testdata/helper.py", False),
        ("calculator/testdata/x.test.js", False),
        ("tests/helper.py", False),
        ("tests/data/words.txt", False),
        ("calculator/tests/helper.py", False),
        ("calculator/widget.test.js", False),
        ("test/words.txt", False),
    ],
)
def test_what_is_only_called_like_a_test_travels(
    calculator: TaskSet, task: Task, path: str, travels: bool
) -> None:
    got = submit(calculator, task, written={path: b"x = 1\n"})
    assert (path in got.tree) is travels
    assert (path in graded_tree(got, calculator, task)) is travels
    assert bool(got.dropped) is not travels


def test_changes_that_are_not_graded_are_named_in_the_verdict(calculator: TaskSet, task: Task) -> None:
    written = {f"tests/test_{letter}.py": b"" for letter in "abcdefg"} | {"conftest.py": b""}
    verdict = noted(Verdict(resolved=True), submit(calculator, task, written=written))
    assert verdict.resolved
    line = verdict.layers["not graded"]
    assert line.startswith("conftest.py: changed, but it is protected; tests/test_a.py: tests of your own")
    assert line.endswith("; and 3 more")
    assert noted(verdict, submit(calculator, task, written={CODE: b"x = 1\n"})) is verdict


def test_a_run_that_ran_out_of_time_is_worth_nothing_though_all_had_passed(task: Task) -> None:
    report = RunReport(outcomes=outcomes(task).outcomes, finished=True, timed_out=True)
    assert decide(task, report).reward == 0.0


def test_verdicts_stored_before_there_were_layers_can_be_read() -> None:
    old = {
        "resolved": True,
        "passed": ["a"],
        "failed": [],
        "missing": [],
        "tampered": [],
        "log": "",
        "duration_s": 1,
    }
    verdict = TypeAdapter(Verdict).validate_python(old)
    assert verdict.layers == {}
    told = Verdict(True, layers={"canaries": "all ended as they must"})
    assert TypeAdapter(Verdict).validate_json(TypeAdapter(Verdict).dump_json(told)) == told


def test_paths_that_leave_the_tree_do_not_travel(calculator: TaskSet, task: Task) -> None:
    got = submit(calculator, task, written={"../outside": b"x", ".git/config": b"x"})
    assert got.tree == calculator.base_tree(task)


def test_the_graded_tree_has_the_full_tests_and_only_those(calculator: TaskSet, task: Task) -> None:
    base = calculator.base_tree(task)
    forged = Submission({**base, "tests/test_own.py": TreeFile(b"")}, "")
    tree = graded_tree(forged, calculator, task)
    assert b"test_add_negative" not in base[TESTS].data
    assert b"test_add_negative" in tree[TESTS].data
    assert "tests/test_own.py" not in tree


def test_the_reference_is_an_honest_submission(calculator: TaskSet, task: Task) -> None:
    solved = calculator.solved_tree(task)
    got = submission_of(solved, calculator, task)
    assert got.tree == solved
    assert not got.put_back
    assert not got.dropped


def outcomes(task: Task, **changed: str) -> RunReport:
    every = [*task.fail_to_pass, *task.pass_to_pass]
    got = {test: changed.get(test.rpartition("::")[2], "passed") for test in every}
    return RunReport(outcomes={test: outcome for test, outcome in got.items() if outcome}, finished=True)


def test_grading_never_shares_a_sandbox_with_a_policy_and_tasks_share_theirs(
    calculator: TaskSet, task: Task
) -> None:
    slower = replace(task, limits=replace(task.limits, test_s=task.limits.test_s + 77))
    assert sandbox_spec(calculator, slower) == sandbox_spec(calculator, task)
    backend = FakeBackend()
    grade(submit(calculator, task), calculator, task, backend)
    assert {sandbox.spec.role for sandbox in backend.opened} == {"grading"}
    assert sandbox_spec(calculator, task).role == "work"


def test_all_listed_tests_passed_is_resolved(task: Task) -> None:
    assert decide(task, outcomes(task)).reward == 1.0


@pytest.mark.parametrize("outcome", ["failed", "error", "skipped", "xfailed", "xpassed"])
@pytest.mark.parametrize("test", ["test_add", "test_subtract"])
def test_anything_but_passed_is_not_resolved(task: Task, outcome: str, test: str) -> None:
    verdict = decide(task, outcomes(task, **{test: outcome}))
    assert verdict.reward == 0.0
    assert len(verdict.failed) == 1


@pytest.mark.parametrize("outcome", ["", "unfinished", "duplicate"])
def test_a_missing_or_doubtful_test_is_missing(task: Task, outcome: str) -> None:
    verdict = decide(task, outcomes(task, test_add=outcome))
    assert verdict.reward == 0.0
    assert verdict.missing == ("tests/test_calculator.py::test_add",)


def test_a_session_that_did_not_end_by_itself_is_not_believed(task: Task) -> None:
    report = RunReport(outcomes=outcomes(task).outcomes, finished=False)
    assert decide(task, report).reward == 0.0


def test_a_defect_of_the_grading_costs_only_when_it_shows_twice(
    calculator: TaskSet, task: Task, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reference = submission_of(calculator.solved_tree(task), calculator, task)
    defects = [SystemError("passes by")]

    def inspection_with_defects(*given: object) -> SimpleNamespace:
        if defects:
            raise defects.pop()
        return SimpleNamespace(verdict=lambda: Verdict(resolved=True), repeatable=True)

    monkeypatch.setattr(grading, "inspection", inspection_with_defects)
    assert grade(reference, calculator, task, FakeBackend()).resolved
    assert "passes by" in caplog.text
    defects += [SystemError("shows"), SystemError("twice")]
    verdict = grade(reference, calculator, task, FakeBackend())
    assert not verdict.resolved and verdict.missing and verdict.log.endswith("SystemError: shows")


def test_no_more_gradings_run_at_once_than_there_are_cores_for(
    calculator: TaskSet, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = submission_of(calculator.solved_tree(task), calculator, task)
    running, most, lock = [0], [0], threading.Lock()

    def slow(*given: object) -> SimpleNamespace:
        def verdict() -> Verdict:
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
            time.sleep(0.05)
            with lock:
                running[0] -= 1
            return Verdict(resolved=True)

        return SimpleNamespace(verdict=verdict, repeatable=True)

    monkeypatch.setattr(grading, "inspection", slow)
    with ThreadPoolExecutor(16) as threads:
        verdicts = threads.map(lambda _: grade(reference, calculator, task, FakeBackend()), range(32))
        assert all(verdict.resolved for verdict in verdicts)
    assert most[0] == grading.AT_ONCE
