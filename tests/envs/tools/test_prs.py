"""What colleagues did: found by words and paths, read in pages, and only as far as a task's base goes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envs.tasksets.lineage import FileLineage
from envs.tasksets.taskset import Comment, PullRequest, TaskSet, write_taskset
from envs.tools.base import ToolContext, ToolError
from envs.tools.toolset import Toolset, tool_specs
from envs.types import Limits, ToolCall
from sandboxes.base import SandboxSpec
from sandboxes.fake import FakeSandbox

CODE = "calculator/__init__.py"
COMMIT = "8d1e9fb0c2a34455b66e1d2c3b4a59687f0e1d2c"

PAST = [
    PullRequest("c1", "Begin", "2025-01-01T00:00:00Z", author="Ada", files=(CODE, "README.md")),
    PullRequest(
        "3",
        "Count retryLimit from one",
        "2025-02-01T00:00:00Z",
        body=f"Since {COMMIT[:9]} we count from 0; see #2, #4, #9 and https://forge.invalid/a/b/pull/8.",
        author="Bob",
        labels=("bug", "retries"),
        files=("calculator/retries.py",),
        discussion=(
            Comment("Cy", "2025-01-31T00:00:00Z", "Looks right, unlike !4"),
            Comment("Cy", "2026-06-01T00:00:00Z", "Said only at the cutoff"),
        ),
        diff="diff --git a/calculator/retries.py b/calculator/retries.py\n"
        + "+x = 0  # see #9, #4 or #333\n" * 40,
    ),
    PullRequest("4", "Speaks of the fix", "2025-03-01T00:00:00Z", files=(CODE,), body="a secret word"),
    PullRequest("6", "Subtract", "2025-04-01T00:00:00Z", "Why: asked for.", "Ada", files=(CODE,)),
    PullRequest("9", "The fix itself", "2025-05-01T00:00:00Z", "retryLimit", "Ada", files=(CODE,)),
]


@pytest.fixture
def at(calculator: TaskSet, tmp_path: Path) -> ToolContext:
    """A task whose base has four changes before it, one of them withheld."""
    task = replace(calculator.tasks[0], past=4, withheld=("4",), limits=Limits(observation_chars=700))
    base = calculator.base_tree(task)
    rows = [FileLineage(CODE, base[CODE].sha256, 3, ((0, 5), (2, 2), (3, 2)))]
    tree = calculator.source_tree(task)
    taskset = write_taskset(
        tmp_path / "set", calculator.manifest, [task], [tree], prs=PAST, records={"lineage": rows}
    )
    files = {name: entry.data for name, entry in base.items()}
    return ToolContext(FakeSandbox(SandboxSpec("", task.workdir), files), taskset, taskset.tasks[0])


def ask(at: ToolContext, **arguments: Any) -> str:
    return Toolset().parse(ToolCall("1", "prs", arguments)).run(at)


def test_search_ranks_titles_before_prose_and_knows_parts_of_identifiers(at: ToolContext) -> None:
    first = "#3 Count retryLimit from one (2025-02-01, Bob)"
    assert ask(at, search="retry_limit") == first
    assert ask(at, search="RETRIES") == first
    assert ask(at, search="count asked").splitlines() == [first, "#6 Subtract (2025-04-01, Ada)"]
    assert ask(at, search="#6") == "#6 Subtract (2025-04-01, Ada)"
    assert ask(at, search="nowhere") == "no pull requests found"


def test_search_is_narrowed_by_path_author_and_label(at: ToolContext) -> None:
    both = ["#6 Subtract (2025-04-01, Ada)", "c1 Begin (2025-01-01, Ada)"]
    assert ask(at, search="", author="ada").splitlines() == both
    assert ask(at, path="./calculator/__init__.py").splitlines() == both
    assert ask(at, search="", path="*.md") == both[1]
    assert ask(at, label="BUG").startswith("#3 ")
    assert ask(at, search="", label="bug", author="ada") == "no pull requests found"


def test_recent_lists_what_touched_a_file_or_folder_newest_first(at: ToolContext) -> None:
    everything = ["#6", "#3", "c1"]
    assert [line.split()[0] for line in ask(at, recent="calculator").splitlines()] == everything
    assert [line.split()[0] for line in ask(at, recent="/workspace").splitlines()] == everything
    assert ask(at, recent=f"/workspace/{CODE}").startswith("#6 ")
    assert ask(at, recent="nowhere.py") == "no pull requests found"


def test_read_shows_everything_in_pages_that_fit(at: ToolContext) -> None:
    pages = [ask(at, read="3", page=page) for page in range(1, 7)]
    assert all(len(page) < 700 for page in pages)
    assert pages[0].endswith("(page 1 of 6)")
    whole = "\n".join(page.rpartition("\n")[0] for page in pages)
    for part in ("Labels: bug, retries", "Cy (2025-01-31): Looks right", "Files:\ncalculator/retries.py"):
        assert part in whole
    assert whole.count("+x = 0") == 40
    assert ask(at, read="3", page=7) == "it has no such page; there are 6"


def test_what_came_later_or_speaks_of_the_fix_does_not_exist(at: ToolContext) -> None:
    for key in ("4", "9", "#9", "c5", "nonsense"):
        assert ask(at, read=key) == "there is no such pull request"
    assert ask(at, search="secret word fix") == "no pull requests found"
    whole = "".join(ask(at, read=3, page=page) for page in range(1, 7))
    assert "Said only at the cutoff" not in whole
    assert ask(at, search="cutoff") == "no pull requests found"


def test_references_to_what_does_not_exist_and_commit_ids_are_masked(at: ToolContext) -> None:
    page = ask(at, read="3")
    assert "Since [commit] we count from 0; see #2, [later change], [later change] and https" in page
    assert "pull/8" not in page
    assert "unlike [later change]" in page
    assert "see [later change], [later change] or #333" in page, "in code only what is known to be hidden"
    assert ask(at, search=COMMIT[:9]) == "no pull requests found"


def test_blame_follows_lines_of_the_file_as_it_is_now(at: ToolContext) -> None:
    subtract = f"{CODE}:9 last touched by #6 Subtract (2025-04-01, Ada)\nWhy: asked for."
    assert ask(at, blame=f"{CODE}:9").startswith(subtract)
    assert ask(at, blame=f"{CODE}:1").startswith(f"{CODE}:1 last touched by c1 Begin")
    data = at.sandbox.read(CODE, timeout_s=1)
    at.sandbox.write(CODE, b"# mine\n" + data.replace(b"def subtract", b"def minus"), timeout_s=1)
    assert ask(at, blame=f"{CODE}:10").startswith(subtract.replace(":9", ":10"))
    assert "written in this episode" in ask(at, blame=f"{CODE}:1")
    assert "written in this episode" in ask(at, blame=f"{CODE}:9")
    assert ask(at, blame=f"{CODE}:99") == "the file has only 10 lines"


def test_blame_knows_nothing_of_a_withheld_change_or_of_a_file_without_a_record(
    at: ToolContext,
) -> None:
    nothing = "nothing is known of who last touched this line"
    assert ask(at, blame=f"{CODE}:7") == nothing
    assert ask(at, blame="README.md:1") == nothing
    at.sandbox.write("new.py", b"x = 1\n", timeout_s=1)
    assert "written in this episode" in ask(at, blame="new.py:1")


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"read": "3", "blame": "a:1"},
        {"search": "x", "recent": "a"},
        {"recent": "a", "author": "Ada"},
        {"blame": "calculator"},
        {"blame": "a.py:x"},
        {"read": "3", "page": 0},
    ],
)
def test_a_call_that_asks_nothing_or_too_much_is_corrected(
    at: ToolContext, arguments: dict[str, Any]
) -> None:
    with pytest.raises(ToolError):
        ask(at, **arguments)


def test_empty_arguments_beside_a_real_one_do_no_harm(at: ToolContext) -> None:
    assert ask(at, read=6, search="", blame=None, path="").startswith("#6 Subtract")
    spec = next(spec for spec in tool_specs() if spec.name == "prs")
    assert spec.parameters["required"] == []
