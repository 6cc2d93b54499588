"""What only tests use judges them; what the library uses, or what is under test, is source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from envs.grading.grade import grade, noted
from envs.grading.submission import submission_of
from envs.protection import import_roots
from envs.register.proof.judges import Library, softened
from envs.register.proof.taskset import Proposal, write_proven
from envs.register.settings import RegisterSettings
from envs.tasksets.taskset import Manifest, Runtime, TaskSet, load_taskset, write_taskset
from envs.tasksets.trees import Tree, TreeFile, diff_trees, digest
from envs.testing.run import RunnerSetup
from envs.types import Task, Verdict
from sandboxes import Backend, ImageRecipe

CORE = """import json
from pathlib import Path

from .pieces import double

WORDS = Path(__file__).parent / "words.json"
TABLE = Path(__file__).parent.parent / "tables" / "units.json"


def total(one, other):
    return double(one) // 2 + other


def word(number):
    return json.loads(WORDS.read_text())[number] + json.loads(TABLE.read_text())["unit"]


def parse(path):
    return json.loads(Path(path).read_text())["sum"]
"""
FILES = {
    "lib/__init__.py": "",
    "lib/core.py": CORE,
    "lib/pieces.py": "def double(number):\n    return 2 * number\n",
    "lib/words.json": '["none", "one"]',
    "lib/golden.json": '{"sum": 5}',
    "tables/units.json": '{"unit": "s"}',
    "lib/command.py": (
        "from .core import total\n\n\ndef run(words):\n    assert words\n    return total(*map(int, words))\n"
    ),
    "lib/testing.py": (
        "from .core import total\n\n\ndef check_total(one, other, wanted):\n"
        "    assert total(one, other) == wanted\n"
    ),
    "checks/helpers.py": (
        "from lib.core import total\n\n\ndef same(one, other):\n    assert one == other, (one, other)\n"
    ),
    "samples/sums.json": "[[1, 2, 3], [2, 2, 4]]",
    "samples/input.json": '{"sum": 5}',
    "README.md": "A library.\n",
    "checks/test_core.py": """import json
from pathlib import Path

from hamcrest import assert_that, equal_to
from helpers import same
from lib.command import run
from lib.core import parse, total, word
from lib.testing import check_total

HERE = Path(__file__).parent.parent


def test_samples():
    for one, other, wanted in json.loads((HERE / "samples" / "sums.json").read_text()):
        assert total(one, other) == wanted


def test_golden():
    same(parse(HERE / "samples" / "input.json"), json.loads((HERE / "lib/golden.json").read_text())["sum"])


def test_helper():
    same(total(2, 3), 5)


def test_own_helper():
    check_total(2, 3, 5)


def test_matcher():
    assert_that(total(2, 3), equal_to(5))


def test_command():
    assert run(["2", "3"]) == 5


def test_word():
    assert word(1) == "ones"
""",
}
USED = {
    "lib/core.py": ("checks/test_core.py", "lib/command.py"),
    "lib/pieces.py": ("lib/core.py",),
    "lib/words.json": ("lib/core.py",),
    "lib/golden.json": ("checks/test_core.py",),
    "tables/units.json": ("lib/core.py",),
    "lib/command.py": ("checks/test_core.py",),
    "lib/testing.py": ("checks/test_core.py",),
    "checks/helpers.py": ("checks/test_core.py",),
    "samples/sums.json": ("checks/test_core.py",),
    "samples/input.json": ("lib/core.py",),
    "checks/test_core.py": ("",),
}
JUDGES = ("checks/helpers.py", "lib/golden.json", "samples/input.json", "samples/sums.json")


def tree(**texts: str) -> Tree:
    return {path: TreeFile(text.encode()) for path, text in texts.items()}


def library(files: dict[str, str], used: dict[str, tuple[str, ...]], *changed: str) -> Library:
    return Library(tree(**files), import_roots(files, ["."]), frozenset(changed), used)


def test_the_library_keeps_what_it_imports_opens_or_names_and_tests_keep_the_rest() -> None:
    found = library(FILES, USED, "lib/core.py")
    assert found.sorted_code() == ({"checks/helpers.py"}, {"lib/command.py", "lib/testing.py"})
    assert found.judges(()) == JUDGES
    assert found.judges({"lib/testing.py"}) == tuple(sorted([*JUDGES, "lib/testing.py"]))


def test_a_helper_that_the_library_imports_is_source_even_where_it_proves_to_judge() -> None:
    imports = {"lib/pieces.py": FILES["lib/pieces.py"] + "\n\ndef checked():\n    from . import testing\n"}
    found = library(FILES | imports, USED, "lib/core.py")
    assert found.judges({"lib/testing.py"}) == JUDGES


def test_a_module_that_only_tests_import_is_under_test_where_it_needs_the_library() -> None:
    facade = {"facade/__init__.py": "from lib.core import total\n", "checks_support.py": "WANTED = 5\n"}
    used = {**USED, **dict.fromkeys(facade, ("checks/test_core.py",))}
    found = library(FILES | facade, used, "lib/core.py").judges(())
    assert found == tuple(sorted([*JUDGES, "checks_support.py"]))


def test_assertions_are_taken_out_in_all_their_forms() -> None:
    code = b"def f(a, case):\n    assert a\n    case.assertTrue(a)\n    raise AssertionError(a)\n"
    assert softened(code) == b"def f(a, case):\n    pass\n    pass\n    pass"
    assert softened(b"x  =  1\n") == b"x  =  1\n"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Proposal:
    """One task: `total` subtracts."""
    source = tree(**FILES)
    base = source | tree(**{"lib/core.py": CORE.replace("+ other", "- other")})
    names = ("samples", "helper", "own_helper", "matcher", "command")
    task = Task(
        id="lib-0001",
        set="lib",
        split="train",
        environment="default",
        workdir="/workspace",
        instruction="total(2, 3) gives -1.",
        source_digest=digest(source),
        tests_digest=digest(source),
        base_patch=diff_trees(source, base),
        reference_patch=diff_trees(base, source),
        base_digest=digest(base),
        fail_to_pass=tuple(f"checks/test_core.py::test_{name}" for name in names),
        pass_to_pass=("checks/test_core.py::test_golden", "checks/test_core.py::test_word"),
        test_files=("checks/test_core.py",),
    )
    pins = "iniconfig==2.3.1 packaging==26.3 pluggy==1.7.0 pygments==2.21.0 pytest==9.2.0 pyhamcrest==2.1.0"
    recipe = ImageRecipe(name="judged", requirements=tuple(pins.split()))
    manifest = Manifest("lib", "git", "path:lib", {"default": Runtime(recipe, RunnerSetup())})
    return Proposal(manifest, [task], [source])


@pytest.fixture(scope="module")
def registered(plain: Proposal, bubblewrap_backend: Backend, tmp_path_factory) -> TaskSet:
    bubblewrap_backend.ensure_image(plain.manifest.environments["default"].image, timeout_s=600)
    out = tmp_path_factory.mktemp("sets") / "lib"
    return write_proven(plain, RegisterSettings(out=out, backend=bubblewrap_backend)).taskset


@pytest.fixture(scope="module")
def graded(registered: TaskSet, bubblewrap_backend: Backend) -> Callable[..., Verdict]:
    def graded(changes: dict[str, str], taskset: TaskSet = registered, *, solve: bool = False) -> Verdict:
        task = taskset.tasks[0]
        start = taskset.solved_tree(task) if solve else taskset.base_tree(task)
        submission = submission_of(start | tree(**changes), taskset, task)
        return noted(grade(submission, taskset, task, bubblewrap_backend), submission)

    return graded


@pytest.mark.slow
@pytest.mark.bubblewrap
def test_registration_records_what_judges_and_what_is_installed(registered: TaskSet) -> None:
    task = registered.tasks[0]
    assert task.judges == tuple(sorted([*JUDGES, "lib/testing.py"]))
    assert {"hamcrest", "pytest", "pluggy"} <= set(registered.runtime(task).modules)
    assert set(task.judges) < set(registered.trusted_files(task))


SOFT = "def same(*_):\n    pass\n\n\ncheck_total = same\n"
MATCHER = "def assert_that(*_):\n    pass\n\n\nequal_to = assert_that\n"


@pytest.mark.bubblewrap
@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("checks/helpers.py", SOFT),
        ("lib/testing.py", SOFT),
        ("samples/sums.json", "[]"),
        ("hamcrest/__init__.py", MATCHER),
        ("checks/hamcrest.py", MATCHER),
        ("helpers.py", SOFT),
        ("checks/helpers/__init__.py", SOFT),
        ("lib/testing/__init__.py", SOFT),
    ],
)
def test_a_soft_judge_is_put_back_and_named(graded, path: str, text: str) -> None:
    verdict = graded({path: text})
    assert verdict.passed == ("checks/test_core.py::test_golden", "checks/test_core.py::test_word")
    assert path in verdict.layers["not graded"]


@pytest.mark.bubblewrap
def test_all_soft_judges_together_earn_a_reward_where_only_names_are_protected(
    graded, plain: Proposal, tmp_path: Path
) -> None:
    old = write_taskset(tmp_path / "old", plain.manifest, plain.tasks, plain.trees)
    soft = {
        "checks/helpers.py": SOFT,
        "lib/testing.py": SOFT,
        "lib/command.py": "def run(words):\n    return sum(map(int, words))\n",
        "samples/sums.json": "[]",
        "hamcrest/__init__.py": MATCHER,
    }
    assert graded(soft, old).failed == ()
    verdict = graded(soft)
    assert (verdict.resolved, len(verdict.failed)) == (False, 4)
    assert old.tasks[0].hash == load_taskset(old.folder).tasks[0].hash


@pytest.mark.bubblewrap
def test_honest_work_may_change_whatever_the_library_uses(graded) -> None:
    changed = {
        "lib/words.json": '["nothing", "one"]',
        "tables/units.json": '{"unit": "s", "other": ""}',
        "lib/command.py": FILES["lib/command.py"] + "\n\nRUNS = True\n",
        "lib/new.py": "NEW = True\n",
    }
    verdict = graded(changed, solve=True)
    assert verdict.resolved
    assert "not graded" not in verdict.layers


@pytest.mark.bubblewrap
def test_a_judge_that_the_reference_changes_may_be_changed(
    plain: Proposal, registered: TaskSet, tmp_path: Path
) -> None:
    task = registered.tasks[0]
    solved = registered.solved_tree(task)
    moved = solved | tree(**{"checks/helpers.py": FILES["checks/helpers.py"] + "\n\nMORE = 1\n"})
    other = replace(task, reference_patch=diff_trees(registered.base_tree(task), moved))
    taskset = write_taskset(tmp_path / "set", registered.manifest, [other], plain.trees)
    submission = submission_of(moved, taskset, taskset.tasks[0])
    assert submission.left_out == ()
    assert b"MORE" in submission.tree["checks/helpers.py"].data
