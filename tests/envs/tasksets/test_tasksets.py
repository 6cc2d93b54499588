"""Task sets on disk: whole or absent, equal when read back, and honest about what changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from envs.tasksets.taskset import TaskSet, TaskSetError, load_taskset, verify_lock, write_taskset
from envs.tasksets.trees import Tree, apply_patch


def source(calculator: TaskSet) -> Tree:
    return calculator.source_tree(calculator.tasks[0])


def copy(calculator: TaskSet, folder: Path) -> TaskSet:
    return write_taskset(
        folder, calculator.manifest, calculator.tasks, [source(calculator)], prs=calculator.prs
    )


def test_what_was_written_is_read_back_equal(calculator: TaskSet, tmp_path: Path) -> None:
    written = copy(calculator, tmp_path / "set")
    assert written.tasks == calculator.tasks
    assert written.prs == calculator.prs
    assert source(written) == source(calculator)
    assert written.manifest == calculator.manifest
    assert written.digest == calculator.digest, "equal sets have equal digests, wherever they are"
    assert verify_lock(written) == []


def test_the_trees_of_a_task_follow_from_its_patches(calculator: TaskSet) -> None:
    task = calculator.tasks[0]
    assert apply_patch(source(calculator), task.base_patch) == calculator.base_tree(task)
    solved = calculator.solved_tree(task)
    assert solved["calculator/__init__.py"] == source(calculator)["calculator/__init__.py"]
    assert sorted(calculator.trusted_files(task)) == ["pyproject.toml", "tests/test_calculator.py"]


def test_a_folder_that_exists_is_refused_and_left_alone(calculator: TaskSet, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(TaskSetError, match="exists already"):
        copy(calculator, tmp_path / "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_folder_that_cannot_be_written_leaves_nothing(calculator: TaskSet, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(TaskSetError, match="cannot be written"):
        copy(calculator, tmp_path / "file" / "set")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_malformed_row_is_named_by_its_line(calculator: TaskSet, tmp_path: Path) -> None:
    written = copy(calculator, tmp_path / "set")
    rows = written.folder / "tasks.jsonl"
    rows.write_text(rows.read_text() + '{"id": "x"}\n')
    with pytest.raises(TaskSetError, match=r"tasks\.jsonl, line 2: set: Field required"):
        load_taskset(written.folder)
    rows.write_text("{torn\n")
    with pytest.raises(TaskSetError, match=r"tasks\.jsonl, line 1"):
        load_taskset(written.folder)


@pytest.mark.parametrize("missing", ["taskset.toml", "trees.zip", "tasks.jsonl"])
def test_a_missing_file_is_one_sentence(calculator: TaskSet, tmp_path: Path, missing: str) -> None:
    written = copy(calculator, tmp_path / "set")
    (written.folder / missing).unlink()
    with pytest.raises(TaskSetError, match=r"not a task set|cannot be read"):
        load_taskset(written.folder)


def test_the_lock_names_what_changed_since(calculator: TaskSet, tmp_path: Path) -> None:
    written = copy(calculator, tmp_path / "set")
    rows = written.folder / "tasks.jsonl"
    rows.write_text(rows.read_text().replace("Mend it.", "Mend it well."))
    changed = verify_lock(load_taskset(written.folder))
    assert changed == [
        "tasks.jsonl changed since it was registered",
        "calculator-0001 changed since it was registered",
    ]
    (written.folder / "lock.json").unlink()
    assert verify_lock(written) == ["lock.json is missing or cannot be read"]
