"""The same tasks under other names tell who solves from who remembers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import sandboxes
from agents.evals.evaluate import EvalSettings, evaluate
from agents.evals.perturbed import evaluate_perturbed, gap_interval, summarize_pair
from agents.evals.scores import Breakdown
from agents.policies.oracle import patch_calls
from agents.policies.scripted import OraclePolicy, ScriptedPolicy, playing
from envs.register.perturb.plan import Strength
from envs.register.perturb.prove import PerturbedSets
from envs.tasksets.taskset import Manifest, Runtime, TaskSet, write_taskset
from envs.tasksets.trees import Tree, TreeFile, diff_trees, digest
from envs.testing.run import RunnerSetup
from envs.types import Task
from sandboxes import Backend, ImageRecipe, SandboxUnavailable

RECIPE = ImageRecipe(
    name="calculator",
    requirements=(
        "iniconfig==2.3.1",
        "packaging==26.3",
        "pluggy==1.7.0",
        "pygments==2.21.0",
        "pytest==9.2.0",
    ),
)
CODE = (
    "def area(wide, high):\n    return wide * high\n\n\ndef edge(wide, high):\n    return 2 * (wide + high)\n"
)
TESTS = "from shapes import area, edge\n\ndef test_area():\n    assert area(2, 3) == 6\n\n"
TESTS += "def test_edge():\n    assert edge(2, 3) == 10\n"
BUGS = {"area": ("wide * high", "wide + high"), "edge": ("2 * (wide", "1 * (wide")}


def tree(code: str) -> Tree:
    files = {"shapes/__init__.py": code, "tests/test_shapes.py": TESTS}
    return {path: TreeFile(text.encode()) for path, text in files.items()}


@pytest.fixture
def shapes(tmp_path: Path) -> TaskSet:
    tasks, trees = list[Task](), [tree(CODE)]
    for name, bug in BUGS.items():
        base = tree(CODE.replace(*bug))
        trees.append(base)
        tests = {name: f"tests/test_shapes.py::test_{name}" for name in BUGS}
        tasks.append(
            Task(
                id=name,
                set="shapes",
                split="train",
                environment="default",
                workdir="/workspace",
                instruction=f"{name} is wrong.",
                source_digest=digest(base),
                tests_digest=digest(tree(CODE)),
                base_patch="",
                reference_patch=diff_trees(base, tree(CODE)),
                base_digest=digest(base),
                fail_to_pass=(tests.pop(name),),
                pass_to_pass=tuple(tests.values()),
                test_files=("tests/test_shapes.py",),
            )
        )
    manifest = Manifest("shapes", "inject", "by hand", {"default": Runtime(RECIPE, RunnerSetup())})
    return write_taskset(tmp_path / "shapes", manifest, tasks, trees)


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    try:
        backend = sandboxes.connect("bubblewrap")
        backend.ensure_image(RECIPE, timeout_s=600)
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    yield backend
    backend.close()


@pytest.mark.bubblewrap
@pytest.mark.slow
def test_the_oracle_scores_the_same_on_both_and_a_memory_only_on_one(shapes, backend, tmp_path) -> None:
    learned = {task.id: patch_calls(task.reference_patch) for task in shapes.tasks}

    def by_heart(task, seen):
        return playing(learned[task.id.partition("-")[0]])(task, seen)

    for policy, rates, gap in (
        (OraclePolicy(), (1.0, 1.0), 0.0),
        (ScriptedPolicy(by_heart), (1.0, 0.0), 1.0),
    ):
        settings = EvalSettings(tmp_path / policy.name, seed=4, concurrency=2)
        plain = evaluate(policy, [shapes], settings, backend=backend)
        pair, sets = evaluate_perturbed(policy, [shapes], plain, settings, backend=backend)
        assert (pair.perturbed_tasks, pair.left_out, len(sets.tasksets)) == (2, {}, 2)
        assert (pair.pass_rate_plain, pair.pass_rate_perturbed) == rates
        assert (pair.gap, pair.gap_low, pair.gap_high) == (gap, gap, gap)
        assert pair.identifiers_renamed >= 2
        assert plain.pass_rate == 1.0
        manifest, summary = (
            json.loads((settings.out / f"{name}.json").read_text()) for name in ("manifest", "summary")
        )
        folders = [str(perturbed.folder.relative_to(settings.out)) for perturbed in sets.tasksets]
        assert list(manifest["tasks"]) == [str(shapes.folder), *folders]
        assert (summary["pass_rate"], summary["gap"]) == (plain.pass_rate, pair.gap)
    settings = replace(settings, resume=True)
    again, _ = evaluate_perturbed(policy, [shapes], plain, settings, backend=backend)
    assert again == pair


def a_pair_of(count: int) -> PerturbedSets:
    tasks = [SimpleNamespace(id=f"t{n}-p1", traits={"perturbed_from": f"t{n}"}) for n in range(count)]
    sets = tuple(SimpleNamespace(tasks=(task,)) for task in tasks)
    strength = {f"t{n}": Strength(variables=n, names=1, files_moved=n % 2) for n in range(count)}
    return PerturbedSets(1, sets, strength, {"x": "why", "y": "why"})  # pyright: ignore[reportArgumentType]


def test_only_tasks_that_were_scored_both_ways_are_compared() -> None:
    plain = {f"t{n}": Breakdown(1, 4, 1.0) for n in range(4)}
    perturbed = {f"t{n}-p1": Breakdown(1, 4, 0.5) for n in range(3)}
    perturbed["t2-p1"] = replace(perturbed["t2-p1"], scored=0, pass_rate=None)
    pair = summarize_pair(plain, perturbed, a_pair_of(4))
    assert (pair.perturbed_tasks, pair.pass_rate_plain, pair.pass_rate_perturbed, pair.gap) == (
        2,
        1.0,
        0.5,
        0.5,
    )
    assert (pair.identifiers_renamed, pair.files_moved, pair.left_out) == (2.5, 0.5, {"why": 2})


def test_nothing_to_compare_is_no_gap() -> None:
    pair = summarize_pair({}, {}, PerturbedSets(1, (), {}, {"x": "why"}))
    assert (pair.perturbed_tasks, pair.gap, pair.gap_low) == (0, None, None)


def test_the_interval_is_paired_by_task() -> None:
    hard_and_easy = [(0.0, 0.0), (1.0, 1.0)] * 20
    assert gap_interval(hard_and_easy, seed=1) == (0.0, 0.0), "hard tasks are hard both ways"
    mixed = [(1.0, 0.0)] * 10 + [(1.0, 1.0)] * 30
    low, high = gap_interval(mixed, seed=1)
    # The standard error of a mean of 40 such differences is 0.068.
    assert low == pytest.approx(0.25 - 1.96 * 0.068, abs=0.03)
    assert high == pytest.approx(0.25 + 1.96 * 0.068, abs=0.03)
    assert gap_interval(mixed, seed=1) == (low, high)
    assert gap_interval(mixed[:1], seed=1) == (None, None)
