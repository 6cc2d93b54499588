"""Stored patches graded again: the same verdict where nothing changed, and why where something did."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import sandboxes
from agents.evals.regrade import (
    DOES_NOT_APPLY,
    NO_TASK,
    OTHER_TASK,
    RegradeError,
    StoredPatch,
    compare,
    read_patches,
    read_predictions,
    regrade,
)
from agents.runs.folder import RunError
from agents.runs.read import load_tasksets
from envs.tasksets.taskset import Manifest, Runtime, TaskSet, write_taskset
from envs.tasksets.trees import Tree, TreeFile, diff_trees, digest
from envs.testing.run import RunnerSetup
from envs.types import Task, Verdict
from sandboxes import Backend, ImageRecipe, SandboxUnavailable
from sandboxes.fake import FakeBackend

RECIPE = ImageRecipe(
    name="calculator",
    requirements=(
        "iniconfig==2.3.1",
        "packaging==26.3",
        "pluggy==1.7.0",
        "pygments==2.21.0",
        "pytest==9.2.0",
    ),
)
TESTS = "from area import area, side\n\ndef test_area():\n    assert area(2, 3) == 6\n\n"
TESTS += "def test_side():\n    assert side(6, 2) == 3\n"
RIGHT = "def area(a, b):\n    return a * b\n\n\ndef side(a, b):\n    return a / b\n"
WRONG = RIGHT.replace("a * b", "a + b")
PASSED = Verdict(True, passed=("test_area.py::test_area", "test_area.py::test_side"))
FAILED = Verdict(False, passed=("test_area.py::test_side",), failed=("test_area.py::test_area",))


def tree(code: str) -> Tree:
    return {"area.py": TreeFile(code.encode()), "test_area.py": TreeFile(TESTS.encode())}


SOLUTION = diff_trees(tree(WRONG), tree(RIGHT))
OTHER = diff_trees(tree(WRONG), tree(RIGHT.replace("a * b", "b * a")))
NO_HELP = diff_trees(tree(WRONG), tree(WRONG.replace("a + b", "a - b")))


CACHE = diff_trees({}, {"__pycache__/k.py": TreeFile(b"x = 1\n")})
MOVED = """diff --git a/area.py b/inner.py
similarity index 100%
rename from area.py
rename to inner.py
""" + diff_trees({}, {"area.py": TreeFile(RIGHT.encode())}).replace("area.py", "area/__init__.py")
LINKED = f"{SOLUTION}diff --git a/link b/link\nnew file mode 120000\nindex 0000000..1de5659\n"


def make(folder: Path, **changes) -> TaskSet:
    task = Task(
        id="area-1",
        set="area",
        split="train",
        environment="default",
        workdir="/workspace",
        instruction="area(2, 3) gives 5. Mend it.",
        source_digest=digest(tree(WRONG)),
        tests_digest=digest(tree(WRONG)),
        base_patch="",
        reference_patch=SOLUTION,
        base_digest=digest(tree(WRONG)),
        fail_to_pass=("test_area.py::test_area",),
        pass_to_pass=("test_area.py::test_side",),
        test_files=("test_area.py",),
    )
    manifest = Manifest("area", "inject", "by hand", {"default": Runtime(RECIPE, RunnerSetup())})
    return write_taskset(folder / "area", manifest, [replace(task, **changes)], [tree(WRONG)])


@pytest.fixture
def taskset(tmp_path: Path) -> TaskSet:
    return make(tmp_path)


def opened(name: str) -> Iterator[Backend]:
    try:
        backend = sandboxes.connect(name)
        backend.ensure_image(RECIPE, timeout_s=600)
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def bubblewrap() -> Iterator[Backend]:
    yield from opened("bubblewrap")


@pytest.fixture(scope="module")
def docker() -> Iterator[Backend]:
    yield from opened("docker")


LINE = """{"id":"e1","task_id":"area-1","task_hash":"%s","group":"eval/area-1","policy":"p","seed":0,
"turns":[],"stop":"submitted","reward":1.0,"verdict":{"resolved":true,"passed":["test_area.py::test_area"],"failed":[],
"missing":[],"tampered":[],"log":"","duration_s":0.5},"patch":%s,"error":"","duration_s":1.5,"schema":1}"""
"""A trajectory as it has been stored since there are trajectories."""
LOST = '{"id":"e2","task_id":"area-1","task_hash":"","group":"g","policy":"p","seed":1,"turns":[],'
LOST += '"stop":"infra","reward":null,"schema":1}'


def a_run(folder: Path, taskset: TaskSet, where: str = "trajectories") -> Path:
    part = folder / where / "part-000001.jsonl"
    part.parent.mkdir(parents=True)
    line = LINE.replace("\n", "") % (taskset.tasks[0].hash, json.dumps(SOLUTION))
    part.write_text(f"{line}\n{LOST}\n")
    (folder / "manifest.json").write_text(json.dumps({"tasks": {str(taskset.folder): taskset.digest}}))
    return folder


def test_a_run_says_its_patches_and_its_tasks(tmp_path, taskset) -> None:
    run = a_run(tmp_path / "run", taskset, "evals/step-000010/trajectories")
    (stored,), unscored, unread = read_patches(run)
    assert (stored.id, stored.patch, stored.verdict.resolved) == ("e1", SOLUTION, True)
    assert (unscored, unread) == (1, 0)
    assert [loaded.digest for loaded in load_tasksets(run)] == [taskset.digest]


def test_what_cannot_be_read_is_refused_in_one_line(tmp_path, taskset) -> None:
    with pytest.raises(RegradeError, match="holds no graded episode"):
        read_patches(tmp_path)
    with pytest.raises(RunError, match="does not say which tasks it ran; name them with --tasks"):
        load_tasksets(tmp_path)
    run = a_run(tmp_path / "run", taskset)
    (run / "manifest.json").write_text('{"tasks": {"gone/away": "x"}}')
    with pytest.raises(RunError, match="task set gone/away is not there; say with --tasks"):
        load_tasksets(run)
    for text, reason in (
        ("{", "Expecting"),
        ('{"model_patch": "x"}', "entry 0: Field required"),
        ("", "it is empty"),
    ):
        (tmp_path / "p.jsonl").write_text(text)
        with pytest.raises(RegradeError, match=f"holds no predictions: .*{reason}") as caught:
            read_predictions(tmp_path / "p.jsonl")
        assert "\n" not in str(caught.value)


def test_predictions_are_read_as_lines_as_a_list_or_by_instance(tmp_path) -> None:
    rows = [{"instance_id": "a", "model_name_or_path": "m", "model_patch": "x"}, {"instance_id": "b"}]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "p.json").write_text(json.dumps(rows, indent=1))
    (tmp_path / "bom.jsonl").write_text((tmp_path / "p.jsonl").read_text(), "utf-8-sig")
    (tmp_path / "keyed.json").write_text(json.dumps({"a": rows[0], "b": {}}))
    for name in ("p.jsonl", "p.json", "bom.jsonl", "keyed.json"):
        found = read_predictions(tmp_path / name)
        assert [(s.task_id, s.patch, s.verdict) for s in found] == [("a", "x", None), ("b", "", None)]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0c", "\x1c", "\r"])
def test_only_a_newline_ends_a_line_of_predictions(tmp_path, separator: str) -> None:
    row = {"instance_id": "a", "model_patch": f"+x{separator}y\n"}
    (tmp_path / "p.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n\n", "utf-8", newline="")
    (found,) = read_predictions(tmp_path / "p.jsonl")
    assert found.patch == row["model_patch"]


def test_two_answers_of_one_model_are_refused_and_those_of_two_are_read(tmp_path) -> None:
    rows = [{"instance_id": "a", "model_name_or_path": name} for name in ("m", "n", "m")]
    (tmp_path / "p.json").write_text(json.dumps(rows))
    with pytest.raises(RegradeError, match="two answers of one model to a, entries 1 and 3"):
        read_predictions(tmp_path / "p.json")
    (tmp_path / "p.json").write_text(json.dumps(rows[:2]))
    assert len(read_predictions(tmp_path / "p.json")) == 2
    (tmp_path / "p.json").write_text(json.dumps({"a": {"instance_id": "b"}}))
    with pytest.raises(RegradeError, match="the entry of a names another instance, b"):
        read_predictions(tmp_path / "p.json")


def test_what_can_no_longer_be_graded_counts_as_changed(taskset) -> None:
    stored = [
        StoredPatch("1", "area-2", SOLUTION, "", PASSED),
        StoredPatch("2", "area-1", "--- a/no.py\n+++ b/no.py\n@@ -1 +1 @@\n-x\n+y\n", "other", FAILED),
    ]
    stored += [StoredPatch("3", "area-1", text) for text in (SOLUTION[: len(SOLUTION) // 2], LINKED)]
    report = regrade(stored, [taskset], backend=FakeBackend())
    assert [(r.before, r.after) for r in report.rows] == [
        ("resolved", None),
        ("failed", None),
        (None, None),
        (None, None),
    ]
    reasons = [r.reason for r in report.rows]
    assert reasons[0] == NO_TASK and reasons[1].startswith(f"{OTHER_TASK}; {DOES_NOT_APPLY}: git apply ref")
    assert reasons[2] == f"{DOES_NOT_APPLY}: the patch is cut off"
    assert reasons[3].startswith(f"{DOES_NOT_APPLY}: the patch changes a symbolic link")
    assert (report.changed, report.gradings, report.agreed, report.other_tasks) == (4, 0, 0, 1)


def test_differences_are_named() -> None:
    assert compare(PASSED, PASSED) == ""
    assert compare(PASSED, FAILED) == "now failing: test_area.py::test_area"
    many = Verdict(False, missing=tuple(f"t{n}" for n in range(9)), tampered=("x.py: changed",))
    assert compare(FAILED, many) == "now tampered: x.py: changed; now missing: t0, t1, t2 and 6 more"


@pytest.mark.slow
@pytest.mark.bubblewrap
def test_verdicts_that_changed_are_reported_with_their_reason(taskset, bubblewrap) -> None:
    task, attempt = taskset.tasks[0], ("test_area.py: changed, but it is protected",)
    stored = [
        StoredPatch("same", task.id, SOLUTION, task.hash, PASSED),
        StoredPatch("shares", task.id, SOLUTION, task.hash, PASSED),
        StoredPatch("better", task.id, SOLUTION, task.hash, FAILED),
        StoredPatch("worse", task.id, NO_HELP, task.hash, PASSED),
        StoredPatch(
            "tampered", task.id, SOLUTION, task.hash, Verdict(False, PASSED.passed, tampered=attempt)
        ),
        StoredPatch("unknown", task.id, OTHER),
        StoredPatch("stripped", task.id, (OTHER + CACHE).rstrip("\n")),
        StoredPatch("moved", task.id, MOVED),
    ]
    report = regrade(stored, [taskset], backend=bubblewrap, runs=2)
    assert [(r.id, r.before, r.after, r.changed) for r in report.rows] == [
        ("same", "resolved", "resolved", False),
        ("shares", "resolved", "resolved", False),
        ("better", "failed", "resolved", True),
        ("worse", "resolved", "failed", True),
        ("tampered", "tampered", "resolved", True),
        ("unknown", None, "resolved", False),
        ("stripped", None, "resolved", False),
        ("moved", None, "resolved", False),
    ]
    assert [r.reason for r in report.rows[:5]] == [
        "",
        "",
        "now passing: test_area.py::test_area",
        "now failing: test_area.py::test_area",
        "no longer tampered: test_area.py: changed, but it is protected",
    ]
    assert (report.gradings, report.unstable, report.changed) == (10, 0, 3)
    assert (report.agreed, report.identical) == (2, 2)
    assert [row.id for row in report.differing] == ["better", "worse", "tampered", "stripped"]
    assert report.rows[6].not_graded == "__pycache__/k.py: caches"


@pytest.mark.docker
def test_thirty_gradings_of_a_patch_give_one_verdict(taskset, docker) -> None:
    report = regrade([StoredPatch("1", "area-1", SOLUTION)], [taskset], backend=docker, runs=30)
    (row,) = report.rows
    assert (row.after, row.agreed, row.runs, report.unstable) == ("resolved", 30, 30, 0)
