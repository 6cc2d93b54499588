"""Make the task of benchmarks and soak runs: a small package with one bug, and one file of five tests."""

from __future__ import annotations

from pathlib import Path

from envs.tasksets.taskset import Manifest, PullRequest, Runtime, TaskSet, write_taskset
from envs.tasksets.trees import Tree, TreeFile, diff_trees, digest
from envs.testing.run import RunnerSetup
from envs.types import Limits, Task, ToolCall
from sandboxes.images.recipe import ImageRecipe

RECIPE = ImageRecipe(
    name="bench-tests",
    requirements=(
        "iniconfig==2.3.1",
        "packaging==26.3",
        "pluggy==1.7.0",
        "pygments==2.21.0",
        "pytest==9.2.0",
    ),
)
RIGHT = "    return sum(price * count for price, count in items)"
WRONG = "    return sum(price for price, count in items)"
CODE = f'''"""What a basket costs."""


def total(items):
    """Add up pairs of a price and a count."""
{RIGHT}


def cheapest(items):
    return min(items)[0]
'''
TESTS = """from basket import cheapest, total


def test_nothing_costs_nothing():
    assert total([]) == 0


def test_one_of_each():
    assert total([(2, 1), (3, 1)]) == 5


def test_several_of_one():
    assert total([(2, 3)]) == 6


def test_none_of_one():
    assert total([(2, 0), (1, 1)]) == 1


def test_cheapest():
    assert cheapest([(2, 3), (1, 9)]) == 1
"""
FILE, TEST_FILE = "basket/__init__.py", "tests/test_basket.py"
ONE_TEST = """from basket import total


def test_several_of_one():
    assert total([(2, 3)]) == 6
"""
PER_FILE = 20


def bench_taskset(folder: Path, *, tests: int = 5) -> TaskSet:
    """Write a benchmark's task set into a new folder, with 1 test, 5 tests, or more in further files."""
    written = {TEST_FILE: TESTS if tests > 1 else ONE_TEST} | _more(tests - 5)
    source: Tree = {
        FILE: TreeFile(CODE.encode()),
        "README.md": TreeFile(b"Baskets.\n"),
        "pyproject.toml": TreeFile(b"[project]\nname = 'basket'\nversion = '1'\n"),
    } | {path: TreeFile(text.encode()) for path, text in written.items()}
    base = source | {FILE: TreeFile(CODE.replace(RIGHT, WRONG).encode())}
    ids = [
        f"{path}::{line[4:-3]}"
        for path, text in written.items()
        for line in text.splitlines()
        if line.startswith("def ")
    ]
    broken = tuple(test for test in ids if test.endswith(("several_of_one", "none_of_one")))
    task = Task(
        id="bench-0001",
        set="bench",
        split="train",
        environment="default",
        workdir="/workspace",
        instruction="`total` forgets how many there are of each. Mend it.",
        source_digest=digest(source),
        tests_digest=digest(source),
        base_patch=diff_trees(source, base),
        reference_patch=diff_trees(base, source),
        base_digest=digest(base),
        fail_to_pass=broken,
        pass_to_pass=tuple(test for test in ids if test not in broken),
        test_files=tuple(written),
        past=1,
        cutoff="2026-01-01T00:00:00Z",
        limits=Limits(max_turns=20, command_s=20, test_s=60, episode_s=600),
    )
    prs = [PullRequest("1", "Add baskets", "2025-01-01T00:00:00Z", "A first version.", "ada")]
    manifest = Manifest("bench", "inject", "path:basket", {"default": Runtime(RECIPE, RunnerSetup())})
    return write_taskset(folder, manifest, [task], [source], prs=prs)


def _more(tests: int) -> dict[str, str]:
    """Return test files whose tests pass with and without the bug."""
    files: dict[str, str] = {}
    for number in range(tests):
        path = f"tests/test_more_{number // PER_FILE}.py"
        text = f"\n\ndef test_one_thing_{number}():\n    assert total([({number}, 1)]) == {number}\n"
        files[path] = files.get(path, "from basket import total\n") + text
    return files


def ten_steps(number: int = 0, *, mend: bool = True) -> list[ToolCall]:
    """Return ten tool calls of an agent that explores, and fixes the bug if `mend`.

    The submission differs by `number`, because the depth of the inspection is drawn from the patch.
    """
    calls = [
        ToolCall("", "view", {"path": "."}),
        ToolCall("", "search", {"query": "total("}),
        ToolCall("", "view", {"path": FILE}),
        ToolCall("", "shell", {"command": "git log --oneline"}),
        ToolCall("", "prs", {"search": "basket"}),
        ToolCall("", "view", {"path": TEST_FILE}),
        ToolCall("", "search", {"query": "price", "glob": "*.py"}),
        ToolCall("", "edit", {"path": FILE, "insert_line": 0, "new": f"# Prices are in cents ({number})."}),
        ToolCall("", "shell", {"command": "true"}),
    ]
    last = ToolCall("", "edit", {"path": FILE, "old": WRONG.strip(), "new": RIGHT.strip()})
    return [*calls, last if mend else calls[2]]
