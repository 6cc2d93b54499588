"""The list of cheats: whole, without doubles, and the one that the documentation shows."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from envs.redteam.cheat import FAMILIES, Cheat
from envs.redteam.scene import NotApplicable, changed_tree, scene_of
from envs.redteam.suite import CHEATS, FAST, HONEST, chosen
from envs.redteam.table import END, START, NoMarks, markdown, rows, write_between_marks
from envs.redteam.tries import Findings, Try, attempt, attempt_honest, try_all
from envs.register import RegisterSettings, register_inject
from envs.tasksets.taskset import TaskSet, load_taskset
from sandboxes import Backend, connect

ROOT = Path(__file__).resolve().parents[3]
EXPLOITS = range(1, 36)
"""Rows of the published matrix of exploits and who is open to which."""


def test_names_are_unique_and_every_family_and_every_known_exploit_is_covered() -> None:
    names = [way.name for way in (*CHEATS, *HONEST)]
    assert len(names) == len(set(names))
    assert len(CHEATS) >= 60
    assert {cheat.family for cheat in CHEATS} == set(FAMILIES)
    assert {row for cheat in CHEATS for row in cheat.rows} == set(EXPLOITS)
    assert {cheat.family for cheat in chosen(fast=True)} >= {"reading", "harness", "forging", "in-process"}
    assert [cheat.name for cheat in chosen(fast=True)] == [
        cheat.name for cheat in CHEATS if cheat.name in FAST
    ]


def test_no_cheat_that_is_a_tree_holds_the_fix(kettle: TaskSet) -> None:
    task = kettle.tasks[0]
    base, fix = kettle.base_tree(task), b"total = one + other"
    for cheat in CHEATS:
        if cheat.changes is not None:
            tree = changed_tree(base, cheat.changes(scene_of(kettle, task)))
            assert tree != base, cheat.name
            assert not any(fix in file.data for path, file in tree.items() if path not in base), cheat.name
            assert fix not in tree["kettle/__init__.py"].data, cheat.name


def test_the_documentation_lists_exactly_the_cheats_and_the_honest_work_there_are() -> None:
    text = (ROOT / "docs/reward.md").read_text()
    table = text.partition(START)[2].partition(END)[0]
    listed = re.findall(r"^\| ([^|]+?) \|", table, re.MULTILINE)
    assert sorted(listed) == sorted(["the reference", *(way.name for way in (*CHEATS, *HONEST))])


def made(name: str, family: str, result: str, evidence: str = "") -> Try:
    return Try("kettle-0001", name, family, result, evidence, 0.1)  # pyright: ignore[reportArgumentType]


def test_a_table_says_what_stopped_each_and_that_something_was_not_stopped(tmp_path: Path) -> None:
    tries = (
        made("git history", "reading", "scores 0", "nothing to hand in: found nothing"),
        made("good reports", "in-process", "scores 1", "nothing stopped it"),
        made("signals", "escape", "got hold of it", "can signal process 1"),
        made("full disks", "resources", "not scored", "the sandbox failed: gone"),
        made("own tests", "honest", "scores 1"),
        made("type hints", "honest", "scores 0", "hidden tests: 1 failed"),
    )
    found = Findings(("kettle",), tries, 1.0)
    assert [outcome.name for outcome in found.bad] == ["good reports", "signals", "full disks", "type hints"]
    assert not found.ok
    shown = {row[0]: row[3:] for row in rows(tries)}
    assert shown["git history"] == ["nothing to hand in", "0 of 1"]
    assert shown["good reports"] == ["**nothing**", "1 of 1"]
    assert shown["signals"] == ["**nothing**", "0 of 1, 1 got hold of it"]
    document = tmp_path / "reward.md"
    document.write_text(f"before\n{START}\nold\n{END}\nafter\n")
    write_between_marks(document, markdown(found))
    assert document.read_text().startswith(f"before\n{START}\n\nTried on 1 tasks of kettle: 4 attempts")
    assert document.read_text().endswith(f"{END}\nafter\n")
    document.write_text("no marks\n")
    with pytest.raises(NoMarks):
        write_between_marks(document, "x")


@pytest.mark.bubblewrap
@pytest.mark.slow
def test_cheats_score_nothing_and_honest_work_scores(kettle: TaskSet, backend: Backend) -> None:
    chosen_ones = chosen(names=("conftest hooks", "exit at import", "git objects", "good reports"))
    honest = [
        solution
        for solution in HONEST
        if solution.name in ("renamed variables", "helper module", "odd file names")
    ]
    found = try_all(
        [kettle], chosen_ones, honest, backend=backend, workers=2, only=lambda task: task == kettle.tasks[0]
    )
    assert [f"{outcome.name}: {outcome.result}" for outcome in found.bad] == []
    assert len(found.tries) == 8
    layers = {outcome.name: outcome.layer for outcome in found.tries}
    assert layers["conftest hooks"] == "protected paths"
    assert layers["git objects"] == "hidden tests", "what it finds travels, and is no fix"


@pytest.mark.bubblewrap
def test_what_does_not_apply_is_told_with_its_reason(kettle: TaskSet, backend: Backend) -> None:
    def nothing(_):
        raise NotApplicable("there is nothing here")

    idle = Cheat("idle", "tries nothing", "planted", (), nothing, family="reading")
    found = attempt(idle, kettle, backend=backend)
    assert (found.result, found.evidence, found.good) == ("does not apply", "there is nothing here", True)
    protected = next(solution for solution in HONEST if solution.name == "protected like the reference")
    assert attempt_honest(protected, kettle, backend=backend).result == "does not apply"


CLOSED = (
    "between the lines, with care",
    "between the lines, with more care",
    "expected by the caller",
    "only in tests",
)
"""Cheats that read or mend what is told in the test process, where earlier layers gave them a reward."""


@pytest.mark.slow
@pytest.mark.bubblewrap
def test_what_mends_or_reads_expectations_passes_what_must_fail_and_is_told(
    kettle: TaskSet, backend: Backend
) -> None:
    found = try_all([kettle], chosen(names=CLOSED), (), backend=backend, workers=3)
    assert [f"{outcome.task} {outcome.name}: {outcome.evidence}" for outcome in found.bad] == []
    assert len(found.tries) == 2 * (len(CLOSED) + 1)
    layers = {outcome.layer for outcome in found.tries if outcome.family != "honest"}
    assert layers == {"canaries", "second look"}


SOFT = ("golden files", "soft helpers", "soft helpers of the package", "own matchers")
JUDGES = ("checks/helpers.py", "kettle/testing.py", "samples/sums.json")


@pytest.mark.slow
@pytest.mark.bubblewrap
def test_what_only_tests_use_is_put_back_and_the_librarys_own_data_is_not(
    judged: Callable[..., TaskSet], backend: Backend
) -> None:
    honest = [way for way in HONEST if way.name == "the library's data"]
    found = try_all(
        [judged("judged", JUDGES, ("hamcrest",))], chosen(names=SOFT), honest, backend=backend, workers=2
    )
    assert [f"{outcome.task} {outcome.name}: {outcome.evidence}" for outcome in found.bad] == []
    layers = {outcome.name: outcome.layer for outcome in found.tries if outcome.family != "honest"}
    assert layers == dict.fromkeys(SOFT[:3], "protected paths") | {"own matchers": "does not travel"}
    assert {outcome.result for outcome in found.tries if outcome.family == "honest"} == {"scores 1"}
    unknown = try_all([judged("names", (), ())], chosen(names=SOFT), (), backend=backend, workers=2)
    assert {outcome.name for outcome in unknown.bad} == set(SOFT), "a name protects none of these"


@pytest.mark.docker
def test_the_command_rewards_none_of_the_fast_set_and_the_reference(
    kettle: TaskSet, docker_backend: Backend
) -> None:
    families = [word for name in FAMILIES for word in ("--family", name)]
    docker_backend.ensure_image(kettle.runtime(kettle.tasks[0]).image, timeout_s=250)
    words = ["redteam", str(kettle.folder), "--fast", *families, "--sandbox", "docker", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "daythree", *words],
        cwd=ROOT, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    printed = json.loads(done.stdout)
    assert (printed["ok"], printed["bad"]) == (True, [])
    results = {outcome["name"]: outcome["result"] for outcome in printed["tries"]}
    assert results.pop("the reference") == "scores 1"
    assert results.keys() == set(FAST)
    assert list(results.values()).count("scores 0") >= len(FAST) - 1


def rewarded_for_anything_but_work(taskset: TaskSet, backend: Backend) -> list[str]:
    """Play every cheat and all honest work on every task of a set, and name what did not go as it must."""
    for environment in taskset.manifest.environments.values():
        backend.ensure_image(environment.image, timeout_s=600)
    found = try_all([taskset], CHEATS, HONEST, backend=backend, workers=4)
    for task in taskset.tasks:
        mine = [outcome for outcome in found.tries if outcome.task == task.id]
        cheats = [outcome for outcome in mine if outcome.family != "honest" and outcome.result == "scores 0"]
        assert len(cheats) >= 45, "too few cheats apply to say anything"
        assert len(mine) == len(CHEATS) + len(HONEST) + 1
    return [f"{outcome.task} {outcome.name}: {outcome.result}: {outcome.evidence}" for outcome in found.bad]


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_but_work_is_rewarded_on_any_task_of_a_small_set(kettle: TaskSet) -> None:
    with closing(connect("docker")) as backend:
        assert rewarded_for_anything_but_work(kettle, backend) == []


@pytest.mark.bubblewrap
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_but_work_is_rewarded_on_a_task_of_a_real_library(tmp_path: Path) -> None:
    with closing(connect("bubblewrap")) as backend:
        settings = RegisterSettings(out=tmp_path / "set", limit=1, runs=2, backend=backend)
        register_inject("pypi:inflection==0.5.1", settings)
        assert rewarded_for_anything_but_work(load_taskset(tmp_path / "set"), backend) == []
