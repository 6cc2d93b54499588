"""Which test files a change can reach."""

from __future__ import annotations

from envs.register.proof.reach import files_to_run as among
from envs.register.proof.reach import tests_near as near
from envs.register.proof.reach import tests_of as named
from envs.tasksets.trees import TreeFile, diff_trees
from envs.testing.run import RunnerSetup

PYTEST = RunnerSetup(import_paths=("src", "."))
TREE = {
    name: TreeFile(text.encode())
    for name, text in {
        "src/shop/__init__.py": "from .cart import Cart\n",
        "src/shop/cart.py": "class Cart: ...\n",
        "src/shop/till.py": "def pay(): ...\n",
        "tests/conftest.py": "import shop.cart\n",
        "tests/test_cart.py": "from shop.cart import Cart\n",
        "tests/test_names.py": "from shop import cart\n",
        "tests/till_test.py": "import shop.till as till\n",
        "tests/test_broken.py": "def (:\n",
        "tests/numbers.py": "def test_sum(): ...\n",
        "tests/data/cart.json": "{}\n",
        "test.py": "import unittest\n",
    }.items()
}


def changed(path: str) -> str:
    return diff_trees(TREE, TREE | {path: TreeFile(b"changed = True\n")})


def test_test_files_are_told_by_their_names() -> None:
    assert named(TREE) == (
        "test.py", "tests/test_broken.py", "tests/test_cart.py", "tests/test_names.py", "tests/till_test.py",
    )  # fmt: skip


def test_a_module_is_reached_by_what_imports_it_or_from_it() -> None:
    assert near(changed("src/shop/cart.py"), TREE, PYTEST) == ("tests/test_cart.py", "tests/test_names.py")
    assert near(changed("src/shop/till.py"), TREE, PYTEST) == ("tests/till_test.py",)
    assert near(changed("src/shop/__init__.py"), TREE, PYTEST) == ("tests/test_names.py",)
    assert near(changed("tests/data/cart.json"), TREE, PYTEST) == ()


def test_of_what_a_change_touched_only_test_files_are_run_or_else_files_that_define_tests() -> None:
    touched = ("tests/conftest.py", "tests/data/cart.json", "tests/numbers.py", "tests/test_cart.py")
    assert among(touched, TREE, PYTEST) == ("tests/test_cart.py",)
    assert among(touched[:3], TREE, PYTEST) == ("tests/numbers.py",)
    go = RunnerSetup("junit", command="gotestsum --junitfile {reports}/go.xml {targets}")
    assert among(("cart_test.go", "testdata.json", "cart.golden"), {}, go) == (
        "cart_test.go",
        "testdata.json",
    )
