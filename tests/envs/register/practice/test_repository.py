"""Practice repositories: reproducible, apart by split, and with tests that only a right fix passes."""

from __future__ import annotations

import re

import pytest

from envs.register.practice.bugs import FAMILIES
from envs.register.practice.functions import neighbours
from envs.register.practice.memory import run_in_memory
from envs.register.practice.repository import Repository, draw_repository
from envs.register.practice.tasks import make_tasks
from envs.register.practice.words import is_heldout_name
from envs.tasksets.trees import apply_patch, digest
from envs.tools.prs_view import view
from envs.types import Task

SEEDS = range(40)
SPLITS = ("train", "heldout")


def repositories(split: str) -> list[Repository]:
    return [draw_repository(seed, split) for seed in SEEDS]


@pytest.mark.parametrize("split", SPLITS)
def test_a_seed_and_a_split_decide_every_byte(split: str) -> None:
    first, again = draw_repository(5, split), draw_repository(5, split)
    assert digest(first.tree(with_hidden=True)) == digest(again.tree(with_hidden=True))
    assert first.prs == again.prs
    assert digest(first.tree()) != digest(draw_repository(6, split).tree())


def test_every_family_is_drawn() -> None:
    drawn = {issue.family for repository in repositories("train") for issue in repository.issues}
    assert drawn == set(FAMILIES)


@pytest.mark.parametrize("split", SPLITS)
def test_names_constants_and_structures_of_one_split_are_not_in_the_other(split: str) -> None:
    for repository in repositories(split):
        names = [function.name for module in repository.modules for function in module.functions]
        for name in (*names, *repository.aliases):
            verb, _, noun = name.partition("_")
            assert is_heldout_name(verb, noun) == (split == "heldout")
        for module in repository.modules:
            for function in module.functions:
                constants = {int(function.values[slot]) for slot in "cd" if slot in function.values}
                assert all((value % 5 == 0) == (split == "heldout") for value in constants)
                assert split == "heldout" or not function.shape.heldout
    new = [bug.right.shape.heldout for r in repositories(split) for issue in r.issues for bug in issue.bugs]
    assert any(new) == (split == "heldout")


@pytest.mark.parametrize("split", SPLITS)
def test_hidden_tests_refuse_every_near_miss(split: str) -> None:
    """A fix that differs in one small way passes the hidden tests only where it is right everywhere."""
    refused, wide = 0, [(x, y) for x in range(-60, 121, 3) for y in range(-60, 121, 3)]
    for repository in repositories(split):
        for module in repository.modules:
            for function in module.functions:
                callee = module.callee(function)
                right = function.evaluator(callee)
                for other in neighbours(function):
                    wrong = other.evaluator(callee)
                    same = all(wrong(*point) == value for point, value in repository.hidden[function.name])
                    if same:
                        assert all(wrong(*point) == right(*point) for point in wide), (function, other)
                    refused += not same
    assert refused > 500


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_tasks_fail_before_and_pass_after_and_hide_what_decides(split: str) -> None:
    for seed in SEEDS:
        repository = draw_repository(seed, split)
        for made in make_tasks(repository, f"r{seed}", split):
            task = made.task
            assert apply_patch(made.full, task.base_patch) == made.base
            solved = apply_patch(made.base, task.reference_patch)
            tests = {path: made.full[path] for path in task.test_files}
            report = run_in_memory(solved | tests, task.test_files)
            assert set(report.ids("passed")) == {*task.fail_to_pass, *task.pass_to_pass}
            assert set(task.hidden_tests) <= set(task.fail_to_pass)
            assert task.hidden_tests, "what decides is not in the policy's tree"
            assert not any("_cases" in path for path in made.base)


@pytest.mark.slow
def test_a_stated_rule_is_in_a_pull_request_and_nowhere_in_the_files() -> None:
    stated = 0
    for repository in repositories("heldout"):
        for made in make_tasks(repository, "r", "heldout"):
            if made.task.traits["family"] != "pr" or "constant" not in str(made.task.traits["kind"]):
                continue
            stated += 1
            (added,) = re.findall(r"^\+(?!\+).*return (.*)$", made.task.reference_patch, re.M)
            for path, entry in made.base.items():
                assert added not in entry.data.decode(), f"{path} holds the right line"
            visible = run_in_memory(made.base, made.task.test_files[:1])
            assert not visible.ids("failed"), "no test that the policy sees tells the rule"
            assert any("must use" in row.title + row.body for row in repository.prs)
    assert stated > 5


def test_a_task_sees_the_pull_requests_of_its_own_repository_only() -> None:
    from dataclasses import replace

    from envs.register.practice.playing import MemoryTaskSet

    first, second = (draw_repository(seed, "train") for seed in (1, 2))
    task = make_tasks(second, "second", "train", first_pr=len(first.prs))[0].task
    both = replace(MemoryTaskSet.of(second, "both", "train"), prs=(*first.prs, *second.prs))
    assert set(view(both, task).rows) == set(second.prs)


def test_tasks_of_older_sets_keep_their_hash() -> None:
    task = make_tasks(draw_repository(1, "train"), "r", "train", patches=False)[0].task
    fields = {name: getattr(task, name) for name in Task.__dataclass_fields__}
    assert Task(**{**fields, "first_pr": 0}).hash == task.hash != Task(**{**fields, "first_pr": 1}).hash
