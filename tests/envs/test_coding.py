"""The environment in real sandboxes: every tool, every way to end, and what each is worth."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env

import sandboxes
from envs import ENV_ID
from envs.coding import CodingEnv
from envs.grading.grade import grade
from envs.grading.submission import submission_of
from envs.tasksets.taskset import TaskSet
from envs.tasksets.trees import TreeFile, apply_patch
from envs.types import Observation, StopReason, ToolCall
from sandboxes import Backend, SandboxUnavailable

CODE = "calculator/__init__.py"
FIX = {"path": CODE, "old": "a - b", "new": "a + b", "line": 5}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("docker", marks=pytest.mark.docker),
        pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
    ],
)
def backend(request: pytest.FixtureRequest, calculator: TaskSet) -> Iterator[Backend]:
    try:
        backend = sandboxes.connect(request.param)
        backend.ensure_image(calculator.runtime(calculator.tasks[0]).image, timeout_s=600)
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    yield backend
    backend.close()


@pytest.fixture
def env(backend: Backend, calculator: TaskSet) -> Iterator[CodingEnv]:
    with CodingEnv([calculator], backend=backend) as env:
        env.reset(seed=0)
        yield env


def do(env: CodingEnv, name: str, **arguments: Any) -> Observation:
    observation, reward, terminated, truncated, _ = env.step(ToolCall("1", name, arguments))
    assert (reward, terminated, truncated) == (0.0, False, False)
    return observation


def test_gymnasium_accepts_it_without_a_warning(backend: Backend, calculator: TaskSet) -> None:
    env = gymnasium.make(ENV_ID, tasksets=[calculator], backend=backend.name, render_mode="ansi")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # what Gymnasium warns with
        check_env(env.unwrapped)
    env.close()


def test_the_same_seed_gives_the_same_episode(backend: Backend, calculator: TaskSet) -> None:
    calls = [("view", {"path": "."}), ("test", {}), ("search", {"query": "def"}), ("test", {})]

    def play() -> list[Observation]:
        with CodingEnv([calculator], backend=backend) as env:
            first, _ = env.reset(seed=3)
            return [first, *(do(env, name, **arguments) for name, arguments in calls)]

    assert play() == play()


def test_view_shows_lines_with_numbers_and_folders(env: CodingEnv) -> None:
    assert do(env, "view", path=CODE, start=4, end=5).text == "4\tdef add(a, b):\n5\t    return a - b"
    assert do(env, "view", path=".").text.splitlines()[-1] == "tests/"
    assert do(env, "view", path="nothing.py").is_error
    assert "has 9 lines" in do(env, "view", path=CODE, start=40).text


def test_edit_refuses_what_is_not_unique_and_says_where(env: CodingEnv) -> None:
    refusal = do(env, "edit", path=CODE, old="a - b", new="a + b")
    assert refusal.is_error
    assert "lines 5, 9" in refusal.text
    elsewhere = do(env, "edit", path=CODE, old="a - b", new="x", line=4)
    assert elsewhere.is_error
    assert elsewhere.text.split("\n") == [
        "line 4 was not changed: old does not start there, but on 5, 9",
        "4\tdef add(a, b):",
    ]
    nowhere = do(env, "edit", path=CODE, old="a % b", new="x", line=5).text
    assert nowhere.endswith("nor anywhere else in the file\n5\t    return a - b")
    assert do(env, "edit", path=CODE, old="a", new="x", line=4).text.endswith(
        "old occurs 2 times; give more text\n4\tdef add(a, b):"
    )
    assert do(env, "edit", path=CODE, old="a", new="x", line=40).text == f"{CODE} has only 9 lines"
    assert do(env, "edit", **FIX).text == f"changed {CODE}\n5\t    return a + b"
    assert "exactly one of" in do(env, "edit", path=CODE, new="x").text


def test_edit_shows_the_first_lines_that_it_changed(env: CodingEnv) -> None:
    do(env, "edit", path="long.txt", new="one\ntwo\nthree\n", create=True)
    longer = do(env, "edit", path="long.txt", old="two", new="\n".join("abcdefghij")).text.split("\n")
    assert longer == [
        "changed long.txt",
        *(f"{n}\t{x}" for n, x in zip(range(2, 10), "abcdefgh", strict=True)),
        "(2 more lines)",
    ]
    assert do(env, "edit", path="long.txt", old="three\n", new="").text == "changed long.txt"
    do(env, "edit", path="long.txt", old="one\na", new="")
    assert do(env, "view", path="long.txt", end=2).text == "1\t\n2\tb"


def test_edit_inserts_and_creates(env: CodingEnv) -> None:
    do(env, "edit", path="README.md", insert_line=1, new="Second line.")
    do(env, "edit", path="docs/new.txt", new="ünïcode", create=True)
    assert do(env, "view", path="README.md").text.endswith("2\tSecond line.")
    assert do(env, "view", path="docs/new.txt").text == "1\tünïcode"
    assert do(env, "edit", path="docs/new.txt", new="again", create=True).is_error


def test_lines_are_counted_alike_whatever_other_line_ends_a_file_holds(env: CodingEnv) -> None:
    do(env, "edit", path="odd.txt", new="a\x0cb\u2028c\rd\ntwo\n", create=True)
    assert do(env, "search", query="two").text == "odd.txt:2: two"
    assert do(env, "view", path="odd.txt", start=2).text == "2\ttwo"
    assert do(env, "edit", path="odd.txt", old="two", new="2", line=2).text == "changed odd.txt\n2\t2"
    do(env, "edit", path="odd.txt", insert_line=1, new="between")
    assert do(env, "view", path="odd.txt", start=2).text == "2\tbetween\n3\t2"


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "binary"])
def test_work_in_bytes_of_any_kind_is_graded_and_stored(env: CodingEnv, encoding: str) -> None:
    commands = {
        "latin-1": f"sed -i '1i # -*- coding: latin-1 -*-' {CODE}; printf '# caf\\351\\n' >> {CODE}",
        "utf-16": rf"""printf '\377\376a\000' > calculator/data.txt; cat >> {CODE} <<'END'
with open(__file__[:-11] + "data.txt", encoding="utf-16") as data: assert data.read() == "a"
END""",
        "binary": r"printf '\000\377' > logo.png; chmod +x README.md",
    }
    do(env, "edit", **FIX)
    do(env, "shell", command=commands[encoding])
    _, reward, _, _, info = env.step(ToolCall("1", "submit", {}))
    assert reward == 1.0 and not info["dropped"], info
    taskset, task = env._episode()
    tree = apply_patch(taskset.base_tree(task), info["patch"])
    assert info["patch"].encode()
    found = {"latin-1": CODE, "utf-16": "calculator/data.txt", "binary": "logo.png"}[encoding]
    assert b"\xe9" in tree[found].data or b"\xff" in tree[found].data
    assert tree["README.md"].executable == (encoding == "binary")


def test_search_finds_text_and_patterns(env: CodingEnv) -> None:
    assert do(env, "search", query="def sub").text == f"{CODE}:8: def subtract(a, b):"
    assert do(env, "search", query=r"^def \w+\(a", kind="regex").text.count("\n") == 1
    assert do(env, "search", query="(", kind="regex").is_error
    assert do(env, "search", query="nowhere").text == "no matches"


def test_search_knows_symbols_and_meaning_as_the_files_are_now(env: CodingEnv) -> None:
    assert do(env, "search", query="subtract", kind="definition").text.startswith(f"{CODE}:8-9: function")
    assert "tests/test_calculator.py" in do(env, "search", query="subtract", kind="uses").text
    assert do(env, "search", query="subtracting", kind="meaning").text.startswith(f"{CODE}:8-9: function")
    do(env, "edit", path=CODE, insert_line=0, new="# first")
    do(env, "shell", command="printf 'def halve(number): return number / 2\\n' > calculator/half.py")
    assert do(env, "search", query="subtract", kind="definition").text.startswith(f"{CODE}:9-10: function")
    halved = do(env, "search", query="halving a negative number", kind="meaning").text
    assert "calculator/half.py:1" in halved and "add_negative" not in halved


def test_past_changes_end_at_the_cutoff(env: CodingEnv) -> None:
    assert do(env, "prs", search="add").text == "#7 Add subtract (2026-01-01, ada)"
    assert "Subtraction was missing" in do(env, "prs", read=7).text
    assert do(env, "prs", read="#9").text == "there is no such pull request"


def test_the_test_tool_shows_what_fails_and_where(env: CodingEnv) -> None:
    seen = do(env, "test").text
    assert seen.startswith("1 failed, 1 passed\nFAILED tests/test_calculator.py::test_add\nAssertionError")
    assert "tests/test_calculator.py:5 in test_add" in seen
    assert "test_add_negative" not in seen
    do(env, "edit", **FIX)
    assert do(env, "test").text == "2 passed"


def test_shell_runs_in_the_repository_and_failing_is_an_observation(env: CodingEnv) -> None:
    assert do(env, "shell", command="pwd; git log --format=%s; git status --short").text == "/workspace\nBase"
    assert do(env, "shell", command="exit 3").text == "(exit code 3)"
    assert "killed after 5 s" in do(env, "shell", command="echo early; sleep 60").text


def test_long_output_is_cut_in_the_middle_and_says_where_the_rest_is(env: CodingEnv) -> None:
    seen = do(env, "shell", command="seq 100000")
    assert len(seen.text) < 8_000
    assert seen.text.startswith("1\n2\n")
    assert seen.text.endswith("\n100000")
    pointer = next(word for word in seen.text.split() if word.strip("[].,;").startswith("/tmp/"))
    assert do(env, "shell", command=f"wc -l < {pointer.strip('[].,;')}").text == "100000"


@pytest.mark.parametrize(
    "call",
    [
        ToolCall("1", "fly", {}),
        ToolCall("1", "view", {}),
        ToolCall("1", "view", {"path": CODE, "colour": "red"}),
        ToolCall("1", "test", {"target": "-p evil"}),
    ],
)
def test_wrong_calls_are_corrected_not_raised(env: CodingEnv, call: ToolCall) -> None:
    observation, *_ = env.step(call)
    assert observation.is_error


def test_the_policy_has_no_upstream_history_and_no_hidden_test(env: CodingEnv) -> None:
    objects = do(env, "shell", command="git cat-file --batch-all-objects --batch-check | cut -d' ' -f2").text
    assert objects.split().count("commit") == 1
    looked = "grep -r test_add_negative . || git grep test_add_negative $(git rev-list --all); ls .git/logs"
    assert "test_add_negative" not in do(env, "shell", command=looked).text.replace(looked, "")


def test_an_untouched_repository_is_worth_nothing(env: CodingEnv) -> None:
    _, reward, terminated, _, info = env.step(ToolCall("1", "submit", {}))
    assert (reward, terminated) == (0.0, True)
    assert info["verdict"].failed == (
        "tests/test_calculator.py::test_add",
        "tests/test_calculator.py::test_add_negative",
    )
    assert info["stop"] is StopReason.SUBMITTED


def test_the_fix_is_worth_one(env: CodingEnv) -> None:
    do(env, "edit", **FIX)
    _, reward, terminated, truncated, info = env.step(ToolCall("1", "submit", {}))
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert "+    return a + b" in info["patch"]
    assert env.task.reference_patch == info["patch"]


@pytest.mark.parametrize(("fixed", "worth"), [(True, 1.0), (False, 0.0)])
def test_edited_tests_and_settings_are_put_back_and_change_nothing(
    env: CodingEnv, fixed: bool, worth: float
) -> None:
    if fixed:
        assert "(" not in do(env, "edit", **FIX).text.partition("\n")[0]
    told = do(env, "edit", path="tests/test_calculator.py", old="== 5", new="== 5 or True").text
    assert told.endswith(
        "(tests and their settings are put back before grading, unless the task is about them)"
    )
    made = do(env, "edit", path="/workspace/tests/test_more.py", new="def test_x(): ...\n", create=True).text
    assert made.endswith("(tests of your own are not graded)")
    do(env, "shell", command="rm pyproject.toml; touch conftest.py tox.ini")
    _, reward, *_, info = env.step(ToolCall("1", "submit", {}))
    assert reward == worth
    assert not info["verdict"].tampered
    assert len(info["dropped"]) == 5
    assert "conftest.py" in info["verdict"].layers["not graded"]


def test_special_casing_the_visible_test_is_worth_nothing(env: CodingEnv) -> None:
    do(env, "edit", path=CODE, line=5, old="a - b", new="5 if (a, b) == (2, 3) else a - b")
    assert do(env, "test").text == "2 passed"
    _, reward, *_, info = env.step(ToolCall("1", "submit", {}))
    assert reward == 0.0
    assert info["verdict"].failed == ("tests/test_calculator.py::test_add_negative",)


def test_running_out_of_turns_is_graded(env: CodingEnv) -> None:
    do(env, "edit", **FIX)
    for _ in range(6):
        do(env, "view", path=".")
    _, reward, terminated, truncated, info = env.step(ToolCall("1", "view", {"path": "."}))
    assert (reward, terminated, truncated) == (1.0, False, True)
    assert info["stop"] is StopReason.MAX_TURNS


def test_a_limit_of_the_loop_is_graded_by_the_same_function(env: CodingEnv) -> None:
    do(env, "edit", **FIX)
    _, reward, terminated, truncated, info = env.finish(StopReason.MAX_TOKENS)
    assert (reward, terminated, truncated) == (1.0, False, True)
    assert info["stop"] is StopReason.MAX_TOKENS


@pytest.mark.parametrize(
    "code",
    [
        "import os; os._exit(0)",
        "import sys; sys.exit(0)",
        "import os, signal; os.kill(os.getppid(), signal.SIGKILL)",
        "print('3 passed')\nraise SystemExit(0)",
    ],
)
def test_code_that_ends_the_test_process_is_worth_nothing(
    backend: Backend, calculator: TaskSet, code: str
) -> None:
    task = calculator.tasks[0]
    cheat = calculator.base_tree(task) | {CODE: TreeFile(code.encode() + b"\n")}
    verdict = grade(submission_of(cheat, calculator, task), calculator, task, backend)
    assert verdict.reward == 0.0
    assert not verdict.passed


def test_what_a_command_leaves_running_and_the_limit_it_hits_are_told(env: CodingEnv) -> None:
    seen = do(env, "shell", command="sleep 300 >/dev/null 2>&1 &").text
    assert re.fullmatch(r"\(still running: sleep \(\d+\)\)", seen)
    assert "(no space left)" in do(env, "shell", command="head -c 9G /dev/zero > big; rm -f big; false").text
