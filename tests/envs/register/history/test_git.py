"""From a real history to tasks that prove themselves, and what is said of every change that made none."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from envs.coding import CodingEnv
from envs.register import RegisterError, RegisterSettings, check, register_git
from envs.register.formats import export_tasks
from envs.register.proof.leaks import pr_leaks
from envs.tasksets.taskset import load_taskset
from envs.types import ToolCall
from sandboxes import Backend, connect
from sandboxes.fake import FakeBackend

ENGINES = [
    pytest.param("docker", marks=pytest.mark.docker),
    pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
]
CODE = '''"""Counting things."""


def count(words):
    return len(words)


def most(words):
    return max(words, key=words.count)
'''
TESTS = """import random

from counting import count, most


def test_count():
    assert count(["a", "b"]) == 2


def test_most():
    assert most(["a", "b", "b"]) == "b"


def test_sometimes():
    assert random.SystemRandom().random() < 0.5
"""
RECIPE = """[image]
name = "counting"
requirements = ["iniconfig==2.3.1", "packaging==26.3", "pluggy==1.7.0", "pygments==2.21.0", "pytest==9.2.0"]

[tests]
runner = "pytest"
import_paths = ["."]
"""


@pytest.fixture
def history(upstream) -> Path:
    """A small library: two real fixes with tests among everything else a history holds."""
    upstream.commit("Begin", {"counting.py": CODE, "test_counting.py": TESTS, "README.md": "Counts.\n"})
    upstream.commit("Say more (#1)", {"README.md": "Counts words.\n"})
    upstream.commit("Test more (#2)", {"test_counting.py": TESTS.replace('"b"]) == 2', '"c"]) == 2')})
    strict = CODE.replace("return len(words)", "return len([word for word in words if word.strip()])")
    tests = TESTS + '\n\ndef test_blank():\n    assert count(["a", " "]) == 1\n'
    upstream.branch("blank")
    upstream.commit("Blank words do not count", {"counting.py": strict})
    upstream.commit("Test it", {"test_counting.py": tests})
    upstream.merge(
        "blank", "Merge pull request #3 from ada/blank\n\nBlank words do not count\n\nThey are no words."
    )
    upstream.commit("Rename nothing (#4)", {"counting.py": strict + "\n", "test_counting.py": tests + "\n"})
    safe = strict.replace("    return max(", "    if not words:\n        return None\n    return max(")
    more = tests + "\n\ndef test_most_of_nothing():\n    assert most([]) is None\n"
    upstream.commit(
        "Nothing has no most (#5)\n\nmost([]) raised ValueError.",
        {"counting.py": safe, "test_counting.py": more},
    )
    upstream.commit(
        "A picture (#6)", {"counting.py": safe + "#\n", "test_counting.py": more + "#\n", "a.png": b"\x89\0"}
    )
    return upstream.folder


@pytest.fixture(params=ENGINES)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    opened = connect(request.param)
    yield opened
    opened.close()


@pytest.mark.slow
def test_a_history_becomes_tasks_that_prove_themselves(
    history: Path, tmp_path: Path, backend: Backend
) -> None:
    recipe, out = tmp_path / "recipe.toml", tmp_path / "tasks" / "counting"
    recipe.write_text(RECIPE)
    settings = RegisterSettings(out=out, limit=9, runs=3, backend=backend)
    report = register_git(str(history), settings, name="counting", recipe=recipe)
    assert (report.tasks, report.heldout, report.looked_at, report.candidates) == (2, 0, 7, 4)
    assert report.dropped == {
        "no test notices the change": 1,
        "changes a file that is not text": 1,
        "changes no code": 2,
        "has no parent": 1,
    }
    taskset = load_taskset(out)
    merged, squashed = taskset.tasks
    assert merged.fail_to_pass == ("test_counting.py::test_blank",) == merged.hidden_tests
    assert set(merged.pass_to_pass) == {"test_counting.py::test_count", "test_counting.py::test_most"}
    assert merged.instruction.startswith("Blank words do not count\n\nThey are no words.\n\nWhat was seen")
    assert squashed.instruction.startswith("Nothing has no most\n\nmost([]) raised ValueError.")
    results = Counter(row["result"] for row in taskset.records("candidates"))
    assert results["counting-0001"] == results["counting-0002"] == 1
    assert pr_leaks(taskset) == []
    proof = check(out, runs=1, backend=backend)
    assert proof.ok, proof
    solve_with_the_past(taskset, squashed.id, backend)
    written = export_tasks(out, "swebench", tmp_path / "rows.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert (written.tasks, [row["instance_id"] for row in rows]) == (2, ["counting-0001", "counting-0002"])
    assert [row["base_commit"] for row in rows] == [task.traits["base_commit"] for task in taskset.tasks]
    assert "test_most_of_nothing" in rows[1]["test_patch"]
    assert "test" not in rows[1]["patch"]


def solve_with_the_past(taskset, task_id: str, backend: Backend) -> None:
    """Play an episode by hand: read what colleagues did, mend it, be graded."""
    env = CodingEnv([taskset], backend=backend)
    try:
        env.reset(options={"task": task_id})
        seen = env.step(ToolCall("1", "prs", {"blame": "counting.py:5"}))[0].text
        assert "Blank words do not count" in seen
        objects = env.step(
            ToolCall("2", "shell", {"command": "git cat-file --batch-all-objects --batch-check | wc -l"})
        )[0]
        assert int(objects.text) == len(taskset.base_tree(taskset.task(task_id))) + 2, (
            "files, one tree, one commit"
        )
        mend = {
            "path": "counting.py",
            "old": "    return max(",
            "new": "    if not words:\n        return None\n    return max(",
        }
        env.step(ToolCall("3", "edit", mend))
        _, reward, *_, info = env.step(ToolCall("4", "submit", {}))
        assert reward == 1.0, info["verdict"]
    finally:
        env.close()


def test_a_history_without_tests_says_why_nothing_came_of_it(upstream, tmp_path: Path) -> None:
    upstream.commit("Begin", {"a.py": "x = 1\n"})
    upstream.commit("More", {"a.py": "x = 2\n"})
    with pytest.raises(
        RegisterError, match="no change of upstream makes a task: changes no tests: 1, has no parent: 1"
    ):
        register_git(str(upstream.folder), RegisterSettings(out=tmp_path / "out", backend=FakeBackend()))
    assert not (tmp_path / "out").exists()


def test_what_is_no_repository_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RegisterError, match=r"not a git repository|no git repository"):
        register_git(str(tmp_path), RegisterSettings(out=tmp_path / "out", backend=FakeBackend()))


def test_a_recipe_that_cannot_be_read_is_named(upstream, tmp_path: Path) -> None:
    upstream.commit("Begin", {"a.py": "x = 1\n"})
    (tmp_path / "recipe.toml").write_text("[image]\nname = 3\n")
    with pytest.raises(RegisterError, match=r"recipe\.toml"):
        register_git(
            str(upstream.folder),
            RegisterSettings(out=tmp_path / "out", backend=FakeBackend()),
            recipe=tmp_path / "recipe.toml",
        )
    assert json.dumps([path.name for path in tmp_path.iterdir()]).count("out") == 0
