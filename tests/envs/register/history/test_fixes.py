"""A change becomes a reference and the tests that prove it, or says in a few words why it cannot."""

from __future__ import annotations

import pytest

from envs.register.history.fixes import NoTask, fitting_limits, new_names, refuse_by_names, split
from envs.tasksets.trees import Tree, TreeFile, apply_patch
from envs.types import Limits


def tree(**files: str | bytes) -> Tree:
    paths = {name.replace("__", "/").replace("_dot_", "."): data for name, data in files.items()}
    return {
        path: TreeFile(data if isinstance(data, bytes) else data.encode()) for path, data in paths.items()
    }


BASE = tree(
    lib_dot_py="def add(a, b):\n    return a - b\n",
    tests__test_lib_dot_py="def test_sub():\n    pass\n",
    setup_dot_cfg="[tool:pytest]\n",
    README_dot_md="# lib\n",
)
AFTER = BASE | tree(
    lib_dot_py="def add(a, b, strict=False):\n    return a + b\n",
    tests__test_lib_dot_py="def test_add():\n    assert add(1, 2, strict=True) == 3\n",
    setup_dot_cfg="[tool:pytest]\nmarkers = slow\n",
    README_dot_md="# lib\n\nAdds.\n",
)


def test_code_and_documents_are_the_reference_tests_and_their_steering_are_not() -> None:
    fix = split(BASE, AFTER)
    solved = apply_patch(fix.base, fix.reference_patch)
    assert solved["lib.py"] == AFTER["lib.py"]
    assert solved["README.md"] == AFTER["README.md"]
    assert solved["tests/test_lib.py"] == BASE["tests/test_lib.py"], "hidden tests are no part of it"
    assert solved["setup.cfg"] == BASE["setup.cfg"]
    assert sorted(fix.trusted) == ["setup.cfg", "tests/test_lib.py"]
    assert fix.trusted["setup.cfg"] == AFTER["setup.cfg"]
    assert (fix.code, fix.tests, fix.lines) == (("lib.py",), ("tests/test_lib.py",), 6)


def test_names_that_only_the_fix_and_its_tests_know_are_found() -> None:
    assert new_names(split(BASE, AFTER)) == ["strict"]


@pytest.mark.parametrize(
    ("paths", "reason"),
    [
        (["README.md"], "changes no code"),
        (["tests/test_lib.py"], "changes no code"),
        (["lib.py", "README.md"], "changes no tests"),
        ([*(f"mod{n}.py" for n in range(30)), "tests/test_a.py"], "changes too many files"),
    ],
)
def test_most_changes_are_refused_by_their_names(paths: list[str], reason: str) -> None:
    assert refuse_by_names(paths) == reason


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (BASE | tree(lib_dot_py="x = 1\n" * 900, tests__test_lib_dot_py=""), "changes too many lines"),
        (AFTER | tree(logo_dot_png=b"\x89PNG\0\xff"), "changes a file that is not text"),
        ({path: file for path, file in AFTER.items() if "tests/" not in path}, "only removes tests"),
    ],
)
def test_what_cannot_be_a_task_says_why(after: Tree, reason: str) -> None:
    with pytest.raises(NoTask, match=reason):
        split(BASE, after)


def test_a_change_of_links_or_submodules_is_refused() -> None:
    with pytest.raises(NoTask, match="symlink or a submodule"):
        split(BASE, AFTER, ["vendored"])


def test_generated_files_are_laid_under_both_sides() -> None:
    version = tree(_version_dot_py="version = '0'\n", lib_dot_py="never\n")
    fix = split(BASE, AFTER).over(version)
    assert fix.base["_version.py"] == fix.solved["_version.py"] == version["_version.py"]
    assert fix.base["lib.py"] == BASE["lib.py"]


def test_a_large_reference_gets_the_turns_that_its_edits_take() -> None:
    assert fitting_limits("@@ -1 +1 @@\n", 0.2) == Limits(max_turns=30, test_s=20.0)
    assert fitting_limits("x\n@@ -1 +1 @@\n" * 24, 3.0) == Limits(max_turns=58, test_s=30.0)
