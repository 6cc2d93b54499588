"""What speaks of a fix is withheld, what does not is not, and the leak check sees the difference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envs.register.proof.leaks import pr_leaks
from envs.register.proof.withheld import signs, withheld
from envs.tasksets.lineage import FileLineage
from envs.tasksets.taskset import Comment, Manifest, PullRequest, Runtime, TaskSet, write_taskset
from envs.tasksets.trees import Tree, TreeFile, diff_trees, digest
from envs.testing.run import RunnerSetup
from envs.types import Task
from sandboxes import ImageRecipe

CODE = "tariff/core.py"
BEFORE = """def total(parts):
    result = 0
    for part in parts:
        result += part
    return result
"""
AFTER = BEFORE.replace("= 0", "= 0.25").replace("+= part", "+= round_half(part)")
BASE: Tree = {
    CODE: TreeFile(BEFORE.encode()),
    "README.md": TreeFile(b"Totals of parts, in whole numbers. Retries: 200\n"),
}
FIXED = BASE | {CODE: TreeFile(AFTER.encode())}
FIX = diff_trees(BASE, FIXED)
COMMIT = "8d1e9fb0c2a34455b66e1d2c3b4a59687f0e1d2c"


def row(key: str, **fields: Any) -> PullRequest:
    return PullRequest(**{"key": key, "title": "Some words", "merged_at": "2025-01-01T00:00:00Z", **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"title": "Use round_half everywhere"},
        {"body": "It should be 0.25 instead"},
        {"body": "Then\n\n    result  +=  round_half(part)"},
        {"discussion": (Comment("bob", "2025-01-01T00:00:00Z", "what about round_half?"),)},
        {"diff": "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-round_half\n+half\n"},
        {"files": ("tests/round_half",)},
        {"labels": ("round_half",)},
        {"author": "round_half"},
        {"body": "Reverts 8d1e9fb"},
        {"body": "Done before, in #77"},
        {"body": "See https://forge.invalid/a/b/pull/77"},
        {"key": "round_half"},
    ],
)
def test_a_change_with_a_sign_of_the_fix_is_withheld(fields: dict[str, Any]) -> None:
    assert len(withheld([row(**{"key": "1", **fields})], BASE, FIX, COMMIT, number=77)) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"title": "Total of parts", "body": "result, Retries and 200 are in the base; see #7 and abcdef0"},
        {"diff": "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -25,025 +25,77 @@\n+    result = 0\n"},
        {"body": "It was halved"},
    ],
)
def test_a_change_that_says_what_the_base_says_too_is_shown(fields: dict[str, Any]) -> None:
    assert withheld([row("1", **fields)], BASE, FIX, COMMIT, number=77) == ()


def test_a_line_of_known_words_is_a_sign_and_case_counts_where_the_base_has_another() -> None:
    fixed = BASE | {"new.py": TreeFile(b"for result in parts:\n    RETRIES = 200\n")}
    patch = diff_trees(BASE, fixed)
    assert signs(BASE, patch).lines == {"for result in parts:", "RETRIES = 200"}
    assert signs(BASE, patch).words == {"RETRIES"}
    diff = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-\tfor result  in parts:\n"
    past = [row("1", diff=diff), row("2", body="RETRIES"), row("3", body="Retries"), row("4", body="retries")]
    assert withheld(past, BASE, patch, COMMIT) == ("1", "2")


def made(folder: Path, told: dict[str, str], **changed: Any) -> TaskSet:
    """A task whose history holds a change that tells, number 2, and the fix, number 3."""
    past = [
        row("1", title="Begin", files=(CODE,)),
        row("2", files=(CODE,), **told),
        row("3", title="Mend totals", body="round_half", files=(CODE,)),
    ]
    task = Task(
        id="tariff-1", set="tariff", split="train", environment="default", workdir="/workspace",
        instruction="Mend it.", source_digest=digest(BASE), base_patch="", reference_patch=FIX,
        base_digest=digest(BASE), tests_digest=digest(BASE), fail_to_pass=("a",), pass_to_pass=(),
        past=2, withheld=withheld(past[:2], BASE, FIX, COMMIT, number=3),
    )  # fmt: skip
    lines = [FileLineage(CODE, BASE[CODE].sha256, 1, ((0, 4), (1, 1)))]
    manifest = Manifest("tariff", "git", "x", {"default": Runtime(ImageRecipe("tariff"), RunnerSetup())})
    return write_taskset(
        folder, manifest, [replace(task, **changed)], [BASE], prs=past, records={"lineage": lines}
    )


IN_THE_TITLE = {"title": "Total by round_half"}
AT_THE_END = {"title": "Total", "body": "Some day\n" * 2000 + "round_half"}


@pytest.mark.parametrize("told", [IN_THE_TITLE, AT_THE_END])
def test_the_leak_check_finds_nothing_in_an_honest_set(tmp_path: Path, told: dict[str, str]) -> None:
    assert pr_leaks(made(tmp_path / "set", told)) == []


def test_the_leak_check_finds_what_was_not_withheld_by_every_way_to_it(tmp_path: Path) -> None:
    ways = {}
    for name, told in (("title", IN_THE_TITLE), ("end", AT_THE_END)):
        found = pr_leaks(made(tmp_path / name, told, withheld=()))
        ways[name] = {line.split()[2].split("=")[0] for line in found}
        assert "tariff-1: prs read='2' shows the word round_half" in found
    assert ways == {"title": {"search", "read", "recent", "blame"}, "end": {"read"}}


def test_the_number_of_a_line_that_is_blamed_is_no_leak(tmp_path: Path) -> None:
    base = BASE | {"long.py": TreeFile(b"a = b\n" * 600)}
    patch = diff_trees(base, base | {"long.py": TreeFile(b"a = b\n" * 600 + b"limit = 500\n")})
    one = made(tmp_path / "one", IN_THE_TITLE)
    lines = [FileLineage("long.py", base["long.py"].sha256, 0, ((0, 499), (1, 101)))]
    task = replace(
        one.tasks[0], source_digest=digest(base), base_digest=digest(base), tests_digest=digest(base),
        reference_patch=patch, withheld=(),
    )  # fmt: skip
    records = {"lineage": lines}
    taskset = write_taskset(tmp_path / "set", one.manifest, [task], [base], prs=one.prs, records=records)
    assert pr_leaks(taskset) == []
