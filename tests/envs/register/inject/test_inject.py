"""From a library to a task set that proves itself, and what happens when it cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from envs.register import RegisterError, RegisterSettings, check, register_inject
from envs.tasksets.taskset import load_taskset
from sandboxes import Backend, ExecResult, connect
from sandboxes.fake import FakeBackend

ENGINES = [
    pytest.param("docker", marks=pytest.mark.docker),
    pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
]


@pytest.fixture
def docker():
    backend = connect("docker")
    yield backend
    backend.close()


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "tinylib")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_small_library_becomes_tasks_that_prove_themselves(
    library: Path, upstream: Any, tmp_path: Path, engine: str
):
    give_past(upstream, library)
    backend = connect(engine)
    try:
        out = tmp_path / "tasks" / "tinylib"
        seen = list[tuple[str, int, int]]()
        report = register_inject(
            str(upstream.folder),
            RegisterSettings(
                out=out, limit=6, runs=2, backend=backend, progress=lambda *step: seen.append(step)
            ),
            kinds=("edit=4", "body=1", "revert=1", "several=1"),
        )
        assert report.tasks == 6 <= report.candidates
        assert report.flaky_tests == ("tests/test_words.py::test_flaky",)
        assert report.stable_tests == 10
        assert ("putting bugs into tinylib", 6, 6) in seen
        assert_tasks_are_whole(out)
        proof = check(out, runs=1, backend=backend)
        assert proof.ok, proof
        assert len(proof.results) == 6
    finally:
        backend.close()


def give_past(upstream: Any, library: Path) -> None:
    """Make a history of the library, in which the second change was a fix."""
    files = {
        path.relative_to(library).as_posix(): path.read_text()
        for path in library.rglob("*")
        if path.is_file()
    }
    fix = "    if value > high:\n        return high\n"
    numbers = files["tinylib/numbers.py"]
    assert fix in numbers
    upstream.commit("Begin", files | {"tinylib/numbers.py": numbers.replace(fix, "")})
    upstream.commit("Keep to the upper bound (#2)", {"tinylib/numbers.py": numbers})


def assert_tasks_are_whole(out: Path) -> None:
    taskset = load_taskset(out)
    kinds = {str(task.traits["kind"]): task for task in taskset.tasks}
    assert kinds.keys() >= {"removed body", "reverted hunk", "several bugs"}
    assert kinds["several bugs"].traits["functions"] == 2
    assert [pr.title for pr in taskset.prs] == ["Begin", "Keep to the upper bound"]
    assert all(task.past == 2 for task in taskset.tasks)
    assert "2" in kinds["reverted hunk"].withheld
    rows = taskset.records("candidates")
    assert [row["task"] for row in rows if row["task"]] == [task.id for task in taskset.tasks]
    assert taskset.records("quarantine") == []
    functions = {
        split: {place for task in taskset.split(split) for place in str(task.traits["places"]).split(", ")}
        for split in ("train", "heldout")
    }
    assert functions["train"]
    assert not functions["train"] & functions["heldout"]
    for task in taskset.tasks:
        assert "untested" not in str(task.traits["places"])
        assert int(task.traits["distance"]) in (0, 1)
        assert task.pass_to_pass
        assert "tests/test_words.py::test_flaky" not in (*task.fail_to_pass, *task.pass_to_pass)
    evidence = json.loads((out / "lock.json").read_text())["evidence"]
    assert evidence["stable_tests"] == 10
    assert sum(sum(counts.values()) for counts in evidence["candidates"].values()) >= 6
    assert set(evidence["tasks"]) == {task.id for task in taskset.tasks}


@pytest.mark.docker
@pytest.mark.slow
def test_a_task_that_is_not_what_it_claims_is_found_out(library: Path, tmp_path: Path, docker: Backend):
    out = tmp_path / "out"
    register_inject(str(library), RegisterSettings(out=out, limit=2, runs=2, backend=docker))
    rows = [json.loads(line) for line in (out / "tasks.jsonl").read_text().splitlines()]
    rows[0]["reference_patch"] = ""
    (out / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    proof = check(out, runs=2, backend=docker)
    assert not proof.ok
    assert [(task.id, task.problems) for task in proof.broken] == [
        (rows[0]["id"], ("the reference patch fails 2 of 2 times",))
    ]
    assert len(proof.problems) == 2


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.parametrize("package", ["pypi:inflection==0.5.1", "pypi:toolz"])
def test_a_real_library_becomes_tasks_that_prove_themselves(package: str, tmp_path: Path, docker: Backend):
    report = register_inject(package, RegisterSettings(out=tmp_path / "out", limit=4, runs=2, backend=docker))
    assert report.tasks == 4
    assert report.source.startswith(package)
    assert check(tmp_path / "out", runs=1, backend=docker).ok


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        ({"tests/test_numbers.py": "import nowhere_to_be_found\n"}, "nowhere_to_be_found"),
        ({"tests/test_numbers.py": "def test_a():\n    assert 1 == 2\n"}, "assert 1 == 2"),
        ({"tests/test_numbers.py": "def test_a():\n    pass\n"}, "no code is tested"),
    ],
    ids=["not importable", "failing", "testing nothing"],
)
def test_tests_that_cannot_serve_are_one_clear_line(
    library: Path, tmp_path: Path, docker: Backend, break_it: dict[str, str], message: str
):
    (library / "tests" / "test_words.py").unlink()
    for name, text in break_it.items():
        (library / name).write_text(text)
    with pytest.raises(RegisterError, match=message) as caught:
        register_inject(str(library), RegisterSettings(out=tmp_path / "out", limit=2, runs=2, backend=docker))
    assert "\n" not in str(caught.value)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("fail_at", [1, 2, 3, 5])
def test_sandboxes_that_go_away_leave_nothing_behind(library: Path, tmp_path: Path, fail_at: int):
    backend = FakeBackend(fail_at=fail_at)
    with pytest.raises(RegisterError, match=r"the sandboxes failed|no test of tinylib") as caught:
        register_inject(str(library), RegisterSettings(out=tmp_path / "out", limit=2, backend=backend))
    assert "\n" not in str(caught.value)
    assert leftovers(tmp_path) == []
    assert backend.opened
    assert all(sandbox.closed for sandbox in backend.opened)


def test_a_suite_that_says_nothing_is_one_clear_line(library: Path, tmp_path: Path):
    backend = FakeBackend(run=lambda command, files: ExecResult(1, "", "cannot import pytest\n"))
    with pytest.raises(RegisterError, match="no test of tinylib 0 passes: cannot import pytest"):
        register_inject(str(library), RegisterSettings(out=tmp_path / "out", limit=2, backend=backend))
    assert all(sandbox.closed for sandbox in backend.opened)


def test_a_place_that_is_taken_or_closed_is_refused_before_any_work(library: Path, tmp_path: Path):
    backend = FakeBackend()
    (tmp_path / "out").mkdir()
    with pytest.raises(RegisterError, match="exists already"):
        register_inject(str(library), RegisterSettings(out=tmp_path / "out", limit=2, backend=backend))
    with pytest.raises(RegisterError, match="cannot be written"):
        register_inject(
            str(library), RegisterSettings(out=library / "pyproject.toml" / "out", limit=2, backend=backend)
        )
    with pytest.raises(RegisterError, match="at least one task"):
        register_inject(str(library), RegisterSettings(out=tmp_path / "other", limit=0, backend=backend))
    assert backend.opened == []


def test_checking_what_is_no_task_set_is_one_clear_line(tmp_path: Path):
    with pytest.raises(RegisterError, match="is not a task set"):
        check(tmp_path, backend=FakeBackend())


def test_an_interrupted_run_leaves_nothing_behind(library: Path, tmp_path: Path):
    def interrupt(what: str, done: int, total: int) -> None:
        if what.startswith("running the tests"):
            raise KeyboardInterrupt

    backend = FakeBackend()
    with pytest.raises(KeyboardInterrupt):
        register_inject(
            str(library), RegisterSettings(out=tmp_path / "out", limit=2, backend=backend, progress=interrupt)
        )
    assert leftovers(tmp_path) == []
    assert backend.opened
    assert all(sandbox.closed for sandbox in backend.opened)
