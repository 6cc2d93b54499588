import json
import shutil
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envs.register.errors import RegisterError
from envs.register.formats import export_tasks
from envs.register.formats.harbor.reading import read_harbor, read_harbor_task
from envs.register.formats.harbor.writing import dockerfile, write_harbor_task
from envs.tasksets.taskset import write_taskset
from envs.tasksets.trees import apply_patch, read_tree, write_tree
from sandboxes import ImageRecipe

from .conftest import BASE, SOLVED, swebench_row


@pytest.fixture
def written(ladle_set, tmp_path):
    """The one task of the set as a Harbor directory."""
    report = export_tasks(ladle_set.folder, "harbor", tmp_path / "harbor")
    assert (report.tasks, report.not_written) == (1, ())
    return tmp_path / "harbor" / "acme__ladle-1"


def test_a_directory_of_ours_is_read_back_without_loss(ladle_set, written):
    entry = read_harbor_task(written)
    task = ladle_set.tasks[0]
    assert entry.task == task
    assert entry.task is not None and entry.task.hash == task.hash
    assert entry.environment == ("plain", ladle_set.manifest.environments["plain"])
    assert (entry.origin, entry.solved) == (BASE, SOLVED)


@pytest.mark.slow
@given(
    text=st.text(),
    traits=st.dictionaries(
        st.text(min_size=1), st.integers(-(2**60), 2**60) | st.floats(-1e9, 1e9) | st.text()
    ),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_words_and_traits_survive_the_way_there_and_back(ladle_set, tmp_path, text, traits):
    folder = tmp_path / "again"
    shutil.rmtree(folder, ignore_errors=True)
    task = replace(ladle_set.tasks[0], instruction=text, traits=traits)
    write_harbor_task(ladle_set, task, folder)
    assert read_harbor_task(folder).task == task


def test_the_layout_is_the_one_harbor_reads(written):
    config = tomllib.loads((written / "task.toml").read_text())
    assert config["schema_version"] == "1.4"
    assert config["task"]["name"] == "daythree/acme__ladle-1"
    assert config["environment"]["network_mode"] == "no-network"
    assert config["verifier"]["timeout_sec"] == 80.5
    assert read_tree(written / "environment" / "base") == BASE
    for script in ("solution/solve.sh", "tests/test.sh"):
        assert (written / script).stat().st_mode & 0o111
        subprocess.run(["bash", "-n", written / script], check=True)


def test_neither_the_fix_nor_the_hidden_tests_are_in_what_the_container_is_built_from(written):
    built = b"".join(path.read_bytes() for path in (written / "environment").rglob("*") if path.is_file())
    assert b"n + 1" not in built and b"test_scoop" not in built


@pytest.mark.parametrize("solved", [True, False])
def test_its_verifier_rewards_the_fix_and_nothing_else(written, tmp_path, solved):
    work = tmp_path / "work"
    write_tree(BASE, work)
    if solved:
        patch = (written / "solution" / "reference.patch").read_text()
        write_tree(apply_patch(BASE, patch), work)
    (work / "conftest.py").write_text("raise SystemExit(0)\n")  # an agent's own: it must not steer the tests
    reward = tmp_path / "logs" / "reward.txt"
    program = [sys.executable, written / "tests" / "verifier" / "verify.py", written / "tests", work, reward]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert reward.read_text() == ("1\n" if solved else "0\n"), done.stdout


def test_its_verifier_needs_nothing_but_the_standard_library(written):
    """A task's container need not have the packages that we use."""
    verifier = written / "tests" / "verifier"
    names = [path.relative_to(verifier).with_suffix("") for path in verifier.rglob("*.py")]
    modules = [".".join(name.parts) for name in names if "programs" not in name.parts]
    program = f"import sys; sys.path.insert(0, {str(verifier)!r}); import {', '.join(modules)}"
    command = [sys.executable, "-I", "-S", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_a_directory_made_from_a_row_is_read_by_that_row(tmp_path):
    folder = directory(tmp_path, config=swebench_row("a" * 40))
    (folder / "environment" / "Dockerfile").write_text("FROM owner/eval:3 AS base\nWORKDIR /testbed\n")
    entry = read_harbor_task(folder)
    assert (entry.id, entry.instruction, entry.image) == ("acme__ladle-1", "Do it.", "owner/eval:3")


def test_a_directory_whose_script_decides_is_refused_and_the_next_one_read(tmp_path):
    directory(tmp_path, "a-script")
    directory(tmp_path, "b-row", config=swebench_row("a" * 40))
    directory(tmp_path, "c-steps", settings={"steps": [{"name": "one"}]})
    directory(tmp_path, "d-gpu", settings={"environment": {"gpus": 1}})
    directory(tmp_path, "e-bad", config={**swebench_row(), "patch": ""})
    (directory(tmp_path, "f-toml") / "task.toml").write_text("= 1")
    found = {reading.place: reading.error.partition(": ")[0] for reading in read_harbor(tmp_path)}
    assert found == {
        "a-script": "tests/test.sh",
        "b-row": "",
        "c-steps": "task.toml",
        "d-gpu": "task.toml",
        "e-bad": "tests/config.json",
        "f-toml": "task.toml",
    }


def test_a_base_tree_that_was_changed_by_hand_is_refused(written):
    (written / "environment" / "base" / "ladle.py").write_text("x = 1\n")
    (found,) = read_harbor(written)
    assert found.error == "environment/base: is not the tree that the task was proven with"


def test_a_folder_without_tasks_is_refused(tmp_path):
    with pytest.raises(RegisterError, match="holds no Harbor task"):
        list(read_harbor(tmp_path))


def test_the_dockerfile_of_an_image_by_name_starts_from_it():
    lines = dockerfile(ImageRecipe("x", base="owner/eval:3"), "/testbed").splitlines()
    assert lines[:2] == ["ARG BASE=owner/eval:3", "FROM ${BASE}"]
    assert not any("apt-get" in line for line in lines)


def test_a_task_that_rows_cannot_hold_is_left_out_and_named(ladle_set, tmp_path):
    task = ladle_set.tasks[0]
    other = replace(task, id="other", traits={})
    trees = [ladle_set.base_tree(task), ladle_set.trusted_files(task)]
    folder = tmp_path / "two"
    write_taskset(folder, ladle_set.manifest, [task, other], trees)
    report = export_tasks(folder, "swebench", tmp_path / "rows.jsonl")
    assert [task.id for task in report.not_written] == ["other"]
    assert report.not_written[0].reason.startswith("base_commit: ")
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["instance_id"] for row in rows] == ["acme__ladle-1"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def directory(above: Path, name: str = "one", *, config=None, settings=None) -> Path:
    """A Harbor task as others write it."""
    folder = above / name
    for part in ("environment", "tests", "solution"):
        (folder / part).mkdir(parents=True)
    (folder / "instruction.md").write_text("Do it.\n")
    (folder / "task.toml").write_text(tomli_w.dumps({"schema_version": "1.1", **(settings or {})}))
    (folder / "environment" / "Dockerfile").write_text("FROM ubuntu:24.04\n")
    (folder / "tests" / "test.sh").write_text("echo 1 > /logs/verifier/reward.txt\n")
    if config is not None:
        (folder / "tests" / "config.json").write_text(json.dumps(config))
    return folder
