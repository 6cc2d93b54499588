"""A project full of traps, put under other names: it must do what it did, and fit no patch by heart."""

from __future__ import annotations

import symtable
import sysconfig
from pathlib import Path

import pytest

from envs.register.perturb.names import Namer
from envs.register.perturb.plan import ALL, LOCAL, perturbation
from envs.register.perturb.prove import NO_PYTHON, NOTHING, UNCHANGED, PerturbedSets, perturb
from envs.register.perturb.source import read
from envs.register.perturb.survey import survey
from envs.register.perturb.tasks import perturbed_task
from envs.register.perturb.variables import rename_variables
from envs.tasksets.taskset import Manifest, PullRequest, Runtime, TaskSet, TaskSetError, write_taskset
from envs.tasksets.trees import PatchError, Tree, TreeFile, apply_patch, diff_trees, digest
from envs.testing.run import RunnerSetup
from envs.tools.prs_view import view
from envs.types import Task
from sandboxes import ImageRecipe
from sandboxes.fake import FakeBackend

PRICES = '''"""Prices."""
from . import rates
from .rates import find_rate as lookup, _normalise

__all__ = ["total", "Basket"]
_CACHE_OF_RATES = {}


def total(amounts, country="de", *, rounding=2):
    """Sum up.

    :param amounts: what each thing costs
    """
    subtotal = sum(amount for amount in amounts if amount)
    rate = lookup(country) if country not in _CACHE_OF_RATES else _CACHE_OF_RATES[country]
    shown = "%(subtotal)s" % {"subtotal": subtotal}
    assert shown and f"{subtotal:.2f}"
    if subtotal < 0:
        raise ValueError("amounts must never be negative")
    return round(subtotal * (1 + rate), rounding)


def describe(first, second):
    third = first + second
    return "{first} {third}".format(**locals())


class Basket:
    limit = 3

    def __init__(self, owner):
        self._owner_name = owner
        self._things = []

    def add(self, thing):
        def put(where=self._things):
            nonlocal thing
            thing = _normalise(thing)
            where.append(thing)
        put()
        return getattr(self, "_" + "things")

    def _count_things(self):
        return len(self._things)

    def full(self):
        return self._count_things() >= self.limit


def _registered(function):
    return function


@_registered
def order(basket, quantity):
    return f"{quantity} of {basket.full()!r}"
'''
RATES = '''"""Rates."""
_KNOWN_RATES = {"de": 0.19, "fr": 0.2}


def _normalise(text):
    return text.strip().lower()  # _normalise keeps nothing but the word


def find_rate(country):
    """Uses _normalise.

    >>> find_rate("de")
    0.19
    """
    code = _normalise(country)
    return _KNOWN_RATES[code]
'''
TESTS = """import pytest
from shop import rates
from shop.prices import Basket, describe, order, total
from shop.rates import find_rate, _KNOWN_RATES


def test_total():
    assert total([100]) == 119.0


def test_rounding():
    assert total([1], country="fr", rounding=1) == 1.2


def test_negative():
    with pytest.raises(ValueError, match="never be neg"):
        total([-1])


def test_describe():
    assert describe("a", second="b") == "a ab"


def test_basket():
    basket = Basket("ada")
    assert basket.add(" Pen ") == ["pen"] and not basket.full()
    assert order(basket, quantity=2) == "2 of False"


def test_rates():
    assert rates.find_rate(" DE ") == _KNOWN_RATES["de"] == find_rate("de")
"""
FILES = {
    "shop/__init__.py": "",
    "shop/prices.py": PRICES,
    "shop/rates.py": RATES,
    "tests/test_shop.py": TESTS,
    "docs/conf.py": "project = 'shop'\nmaster_doc = 'index'\n",
    "README.md": "Rates live in shop/rates.py. Call total(amounts).\n",
}
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
IDS = tuple(
    f"tests/test_shop.py::test_{name}" for name in ("rounding", "negative", "describe", "basket", "rates")
)


def tree(files: dict[str, str]) -> Tree:
    return {path: TreeFile(text.encode()) for path, text in files.items()}


def make(folder: Path, files: dict[str, str], path: str, right: str, wrong: str, **changes) -> TaskSet:
    """A task set of one task: `right` has become `wrong` in a file."""
    solved = tree(files)
    base = solved | tree({path: files[path].replace(right, wrong)})
    assert base != solved
    fields = {
        "id": "shop-1",
        "set": "shop",
        "split": "train",
        "environment": "default",
        "workdir": "/workspace",
        "instruction": "total([100]) is wrong; see shop/rates.py and its _normalise.",
        "source_digest": digest(base),
        "tests_digest": digest(solved),
        "base_patch": "",
        "reference_patch": diff_trees(base, solved),
        "base_digest": digest(base),
        "fail_to_pass": ("tests/test_shop.py::test_total",),
        "pass_to_pass": IDS,
        "test_files": ("tests/test_shop.py",),
        "past": 1,
    }
    past = PullRequest("1", "Rates", "2026-01-01T00:00:00Z", "adds `_normalise`", files=("shop/rates.py",))
    later = PullRequest("2", "Fix", "2026-02-01T00:00:00Z", "fixes total", diff="the answer")
    manifest = Manifest("shop", "inject", "by hand", {"default": Runtime(RECIPE, RunnerSetup())})
    task = Task(**{**fields, **changes})
    return write_taskset(folder / "shop", manifest, [task], [base, solved], prs=[past, later])


@pytest.fixture
def shop(tmp_path: Path) -> TaskSet:
    return make(tmp_path, FILES, "shop/rates.py", '{"de": 0.19', '{"de": 0.91')


def only(taskset: TaskSet) -> tuple[TaskSet, Task]:
    return taskset, taskset.tasks[0]


def text_of(files: Tree, path: str) -> str:
    return files[path].data.decode()


def test_names_and_paths_change_in_everything_a_task_consists_of(shop: TaskSet) -> None:
    change = perturbation(*only(shop), seed=1)
    done = perturbed_task(*only(shop), change)
    moved, helper = change.moves["shop/rates.py"], change.names["_normalise"]
    assert set(change.moves) == {"shop/rates.py", "shop/prices.py"}
    assert {"_normalise", "_KNOWN_RATES", "_CACHE_OF_RATES", "_count_things", "_owner_name"} <= set(
        change.names
    )
    assert "shop/rates.py" not in done.base and moved in done.base
    stem = Path(moved).stem
    prices, tests = (
        text_of(done.base, change.moves["shop/prices.py"]),
        text_of(done.tests, "tests/test_shop.py"),
    )
    assert f"from . import {stem} as rates\nfrom .{stem} import find_rate as lookup, {helper}" in prices
    assert f"from shop import {stem} as rates" in tests
    assert f"from shop.{stem} import find_rate, {change.names['_KNOWN_RATES']}" in tests
    assert text_of(done.base, moved).count(helper) == 4, "in code, comment and docstring"
    assert moved in text_of(done.base, "README.md")
    assert done.task.instruction == f"total([100]) is wrong; see {moved} and its {helper}."
    assert done.base["docs/conf.py"] == shop.base_tree(shop.tasks[0])["docs/conf.py"]


def test_what_is_known_from_afar_keeps_its_name(shop: TaskSet) -> None:
    change = perturbation(*only(shop), seed=1)
    prices = text_of(perturbed_task(*only(shop), change).base, change.moves["shop/prices.py"])
    for kept in (
        'def total(amounts, country="de", *, rounding=2):',  # told, and keywords in the tests
        "def describe(first, second):\n    third = first + second\n",  # seen by locals()
        "def order(basket, quantity):",  # decorated, who knows by what
        "self._things = []",  # its name is put together elsewhere
        'ValueError("amounts must never be negative")',  # the tests repeat it
        '"%(subtotal)s" % {"subtotal": ',
        "nonlocal thing\n            thing = ",
    ):
        assert kept in prices, kept
    assert "subtotal = sum(" not in prices
    assert "def add(self, thing):" in prices
    assert "def put(where=self._things)" not in prices


def test_a_perturbation_is_the_same_for_the_same_seed(shop: TaskSet) -> None:
    one, again, other = (perturbed_task(*only(shop), perturbation(*only(shop), seed=s)) for s in (1, 1, 2))
    assert one == again
    assert one.base != other.base


def test_a_patch_by_heart_does_not_fit(shop: TaskSet) -> None:
    done = perturbed_task(*only(shop), perturbation(*only(shop), seed=1))
    with pytest.raises(PatchError):
        apply_patch(done.base, shop.tasks[0].reference_patch)
    assert digest(apply_patch(done.base, done.task.reference_patch)) == digest(done.solved)


def test_the_strength_is_what_was_done(shop: TaskSet) -> None:
    all_, careful = (
        perturbed_task(*only(shop), perturbation(*only(shop), seed=1, means=means)).strength
        for means in (ALL, LOCAL)
    )
    assert (all_.files_moved, careful.files_moved, careful.names) == (2, 0, 0)
    assert 0 < careful.lines_changed < all_.lines_changed < all_.lines
    assert 0 < careful.variables < all_.variables


@pytest.mark.parametrize("module", ["argparse", "ast", "dataclasses", "shlex", "statistics", "textwrap"])
def test_every_variable_belongs_to_the_scope_it_belonged_to(module: str) -> None:
    data = (Path(sysconfig.get_paths()["stdlib"]) / f"{module}.py").read_bytes()
    source, found = read(data), survey([{f"{module}.py": TreeFile(data)}])
    assert source is not None
    renamed, count = rename_variables(
        source, new_name=Namer(1, found.taken).new, fixed=(), far=found.far, with_parameters=True
    )
    assert count > 20
    before, after = (symtable.symtable(text.decode(), module, "exec") for text in (data, renamed))
    assert scopes(before) == scopes(after)
    assert len(data.splitlines()) == len(renamed.splitlines())


def scopes(table: symtable.SymbolTable) -> list[object]:
    """What each name is in each scope, without the names."""
    names = [
        (s.is_parameter(), s.is_global(), s.is_local(), s.is_free(), s.is_imported(), s.is_assigned())
        for s in table.get_symbols()
    ]
    return [table.get_type(), names, [scopes(child) for child in table.get_children()]]


def test_what_cannot_be_read_is_left_as_it_is() -> None:
    assert read(b"print 'two'\n") is None
    assert read(b"x = 1\r\n") is None
    assert read("x = 'ü'\n".encode("latin-1")) is None


def test_code_without_python_and_code_without_names_are_left_out(tmp_path: Path) -> None:
    script = {"index.js": "module.exports = 1 - 1\n", "test.js": "// a test\n"}
    bare = {"one/__init__.py": "VALUE = 1\n", "tests/test_one.py": "from one import VALUE\n"}
    sets = [
        make(tmp_path / "a", script, "index.js", "1 - 1", "1 + 1", id="js"),
        make(tmp_path / "b", bare, "one/__init__.py", "= 1", "= 2", id="bare"),
    ]
    got = perturb([only(taskset) for taskset in sets], tmp_path / "out", seed=1, backend=FakeBackend())
    assert (got.tasksets, got.left_out) == ((), {"js": NO_PYTHON, "bare": NOTHING})
    with pytest.raises(TaskSetError, match="those of another seed"):
        perturb([only(taskset) for taskset in sets], tmp_path / "out", seed=2, backend=FakeBackend())


@pytest.fixture(scope="module")
def backend():
    import sandboxes

    try:
        opened = sandboxes.connect("bubblewrap")
        opened.ensure_image(RECIPE, timeout_s=600)
    except sandboxes.SandboxUnavailable as error:
        pytest.skip(str(error))
    yield opened
    opened.close()


@pytest.mark.slow
@pytest.mark.bubblewrap
def test_a_perturbed_task_is_proven_and_kept_for_the_next_time(
    shop: TaskSet, tmp_path: Path, backend
) -> None:
    got = perturb([only(shop)], tmp_path / "out", seed=1, backend=backend)
    assert (got.left_out, got.pairs) == ({}, (("shop-1", "shop-1-p1"),))
    assert got.strength["shop-1"].files_moved == 2, "as strongly as it is meant to be"
    (again,) = got.tasksets
    told = view(again, again.tasks[0])
    assert [(row.files[0], row.body == "adds `_normalise`") for row in told.rows] == [(moved_in(got), False)]
    assert "the answer" not in (again.folder / "prs.jsonl").read_text()
    assert perturb([only(shop)], tmp_path / "out", seed=1, backend=FakeBackend()) == got


def moved_in(got: PerturbedSets) -> str:
    base = got.tasksets[0].base_tree(got.tasksets[0].tasks[0])
    return next(path for path in base if "rates" in path)


@pytest.mark.bubblewrap
def test_a_task_whose_old_solution_still_works_is_left_out(tmp_path: Path, backend) -> None:
    tests = "from shop.tax import DEFAULT_TAX\n\ndef test_total():\n    assert DEFAULT_TAX == 0.0\n"
    files = {
        "shop/__init__.py": "",
        "shop/tax.py": '_TAXES = {"x": 1}\n\n\n\n\n\n\n\nDEFAULT_TAX = 0.0\n',
        "setup.cfg": "[options]\nmodules = tax\n",
        "tests/test_shop.py": tests,
    }
    changes = {"pass_to_pass": (), "instruction": "The tax is wrong."}
    one = make(tmp_path, files, "shop/tax.py", "TAX = 0.0", "TAX = 1.0", **changes)
    got = perturb([only(one)], tmp_path / "out", seed=1, backend=backend)
    assert got.left_out == {"shop-1": UNCHANGED}


@pytest.mark.slow
@pytest.mark.bubblewrap
def test_where_a_rewriting_breaks_a_task_a_more_careful_one_is_used(tmp_path: Path, backend) -> None:
    noticed = TESTS + "\n\ndef test_place():\n    assert len(describe.__module__) == 11\n"
    files = FILES | {"tests/test_shop.py": noticed}
    passing = (*IDS, "tests/test_shop.py::test_place")
    one = make(tmp_path, files, "shop/rates.py", '{"de": 0.19', '{"de": 0.91', pass_to_pass=passing)
    got = perturb([only(one)], tmp_path / "out", seed=1, backend=backend)
    assert got.left_out == {}
    strength = got.strength["shop-1"]
    assert (strength.files_moved, strength.names > 0, strength.variables > 0) == (0, True, True)
