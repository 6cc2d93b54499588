"""Rows of a repository that was made a moment ago, into tasks, by real sandboxes."""

import json

import pytest

from envs.register.errors import RegisterError
from envs.register.formats import export_tasks, import_tasks
from envs.register.formats.checkouts import Repositories
from envs.register.formats.entry import Checkout, RowError
from envs.register.formats.harbor.reading import read_harbor_task
from envs.register.formats.resolving import resolve_entry
from envs.register.formats.swebench import read_swebench
from envs.register.runtime.runtimes import load_recipe
from envs.register.settings import RegisterSettings
from envs.tasksets.taskset import load_taskset
from sandboxes.fake import FakeBackend

from .conftest import BASE, POUR, SCOOPS, SOLVED, patches, swebench_row

LINK = "diff --git a/link b/link\nnew file mode 120000\nindex 0000000..1de5659\n"
RECIPE = """[image]
name = "ladle"
requirements = ["iniconfig==2.3.1", "packaging==26.3", "pluggy==1.7.0", "pygments==2.21.0", "pytest==9.2.0"]
"""


@pytest.fixture
def recipe(tmp_path):
    file = tmp_path / "recipe.toml"
    file.write_text(RECIPE)
    return file


@pytest.mark.bubblewrap
@pytest.mark.slow
def test_a_file_of_rows_becomes_a_task_set_and_is_written_again_without_loss(
    upstream, tmp_path, bubblewrap_backend, recipe
):
    good = swebench_row(
        upstream.base,
        FAIL_TO_PASS=json.dumps(["tests/test_ladle.py::test_scoop[the"]),
        PASS_TO_PASS=json.dumps([POUR, "tests/test_ladle.py::test_gone"]),
    )
    bad = {**good, "instance_id": "never-failed", "FAIL_TO_PASS": [POUR]}
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join([json.dumps(good), "{", json.dumps(bad), json.dumps(good)]))
    report = import_tasks(
        "swebench",
        file,
        RegisterSettings(out=tmp_path / "set", backend=bubblewrap_backend, runs=2),
        repos=upstream.repos,
        recipe=recipe,
    )
    assert [(row.place, row.result) for row in report.candidates] == [
        ("rows.jsonl, line 1", "valid"),
        ("rows.jsonl, line 2", "refused"),
        ("rows.jsonl, line 3", "quarantined"),
        ("rows.jsonl, line 4", "refused"),
    ]
    assert report.candidates[0].dropped == ("tests/test_ladle.py::test_gone",)
    assert report.candidates[2].reason == f"FAIL_TO_PASS: {POUR!r} passes before the fix already"
    assert report.candidates[3].reason == "instance_id: 'acme__ladle-1' is already at rows.jsonl, line 1"
    taskset = load_taskset(tmp_path / "set")
    (task,) = taskset.tasks
    assert (task.fail_to_pass, task.pass_to_pass, task.hidden_tests) == (SCOOPS, (POUR,), SCOOPS)
    assert taskset.base_tree(task) == BASE
    assert taskset.trusted_files(task)["tests/test_ladle.py"] == SOLVED["tests/test_ladle.py"]

    export_tasks(tmp_path / "set", "swebench", tmp_path / "out.jsonl")
    row = json.loads((tmp_path / "out.jsonl").read_text())
    assert row["base_commit"] == upstream.base
    assert {**row, "FAIL_TO_PASS": 0, "PASS_TO_PASS": 0, "patch": 0, "test_patch": 0} == {
        **good, "FAIL_TO_PASS": 0, "PASS_TO_PASS": 0, "patch": 0, "test_patch": 0,
    }  # fmt: skip

    export_tasks(tmp_path / "set", "harbor", tmp_path / "harbor")
    assert read_harbor_task(tmp_path / "harbor" / "acme__ladle-1").task == task


def test_when_no_row_makes_a_task_the_first_reasons_are_said_and_nothing_is_written(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(swebench_row(patch="")) + "\n[1]\n")
    with pytest.raises(RegisterError) as caught:
        import_tasks("swebench", file, RegisterSettings(out=tmp_path / "out", backend=FakeBackend()))
    assert str(caught.value).endswith(
        "makes a task: rows.jsonl, line 1: patch: is empty; "
        "rows.jsonl, line 2: the row: is no JSON object but list"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"base_commit": "f" * 40}, "base_commit: acme/ladle has no commit ffff"),
        ({"repo": "acme/gone"}, "repo: acme/gone is not among the given clones, and "),
        ({"patch": "--- a/gone.py\n+++ b/gone.py\n@@ -1 +1 @@\n-a\n+b\n"}, "patch: does not apply"),
        (
            {"test_patch": "--- a/ladle.py\n+++ b/ladle.py\n@@ -1 +1 @@\n-a\n+b\n"},
            "test_patch: changes ladle.py",
        ),
        ({"test_patch": patches()[1][:-40]}, "test_patch: is no diff (the patch is cut off)"),
        ({"patch": patches()[0][:-40]}, "patch: does not apply (the patch is cut off)"),
        ({"patch": patches()[0] + LINK}, "patch: does not apply (the patch changes a symbolic link"),
        (
            {"test_patch": patches()[1] + LINK.replace("link", "tests/link").replace("12", "16")},
            "test_patch: does not apply (the patch changes a submodule",
        ),
        ({"FAIL_TO_PASS": ["tests/test_gone.py::test_x"]}, "FAIL_TO_PASS: tests/test_gone.py is not in"),
    ],
)
def test_what_does_not_fit_the_repository_is_named(upstream, fields, message):
    entry = read_swebench(swebench_row(upstream.base, **fields))
    with Repositories(upstream.repos, timeout_s=5) as repositories, pytest.raises(RowError) as caught:
        resolve_entry(entry, repositories)
    assert str(caught.value).startswith(message)


def test_files_that_a_row_renames_are_where_it_says(upstream):
    moved = "diff --git a/{0} b/{1}\nsimilarity index 100%\nrename from {0}\nrename to {1}"
    fields = {
        "patch": patches()[0] + moved.format("pyproject.toml", "setup.toml"),
        "test_patch": moved.format("tests/test_ladle.py", "tests/test_scoop.py"),
        "FAIL_TO_PASS": ["tests/test_scoop.py::test_scoop[the one]"],
        "PASS_TO_PASS": [],
    }
    with Repositories(upstream.repos) as repositories:
        found = resolve_entry(read_swebench(swebench_row(upstream.base, **fields)), repositories)
    assert found.solved.keys() == {"ladle.py", "setup.toml", "tests/test_scoop.py"}
    assert found.test_files == ("tests/test_scoop.py",)


@pytest.mark.parametrize("place", ["acme/ladle", "acme__ladle", "ladle", "ladle.git"])
def test_a_clone_is_found_under_each_name_it_may_have(upstream, tmp_path, place):
    (tmp_path / "clones" / place).parent.mkdir(parents=True)
    (tmp_path / "clones" / place).symlink_to(upstream.repos / "acme__ladle")
    with Repositories(tmp_path / "clones") as repositories:
        assert repositories.base(Checkout("acme/ladle", upstream.base)).tree == BASE


@pytest.mark.docker
@pytest.mark.slow
def test_rows_run_in_the_image_they_name_and_one_that_cannot_be_used_costs_its_rows_only(
    upstream, tmp_path, docker_backend, docker_image, recipe
):
    image = docker_backend.ensure_image(load_recipe(recipe).image, timeout_s=900)
    names = {"good": image, "bare": docker_image, "gone": "localhost:1/none:1"}
    rows = [swebench_row(upstream.base, instance_id=key, image=name) for key, name in names.items()]
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(rows))
    settings = RegisterSettings(out=tmp_path / "set", backend=docker_backend, runs=2)
    report = import_tasks("swebench", file, settings, repos=upstream.repos)
    assert [row.result for row in report.candidates] == ["valid", "refused", "refused"]
    assert report.candidates[1].reason == f"image: {docker_image} has no python3 with pytest"
    assert report.candidates[2].reason.startswith("environment: cannot build ")
    taskset = load_taskset(tmp_path / "set")
    (task,) = taskset.tasks
    assert task.workdir == "/testbed"
    assert taskset.runtime(task).image.base == image
