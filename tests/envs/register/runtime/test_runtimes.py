"""Many trees, few environments; a recipe of the user's own is used as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from envs.register import RegisterError
from envs.register.project.requirements import Resolution
from envs.register.runtime.runtimes import Environments, half_year, load_recipe
from envs.tasksets.trees import Tree, TreeFile
from sandboxes import ImageRecipe, SandboxUnavailable


class Index:
    """Stands where an index would: every requirement has one version, named for the time it is asked for."""

    def __init__(self) -> None:
        self.questions: list[tuple[str, ...]] = []

    def __call__(self, name, requirements, *, python, dates, supported) -> Resolution:
        self.questions.append((python, *dates, *requirements))
        if "impossible" in requirements:
            raise RegisterError("impossible cannot be had")
        day = dates[0][:10].replace("-", ".")
        return Resolution(
            tuple(f"{requirement}=={day}" for requirement in (*requirements, "pytest")), ("a note",)
        )


def tree_of(*requirements: str, **files: str) -> Tree:
    texts = {
        "pyproject.toml": f"[project]\nname='Real.Thing'\ndependencies={list(requirements)}\n",
        "thing/__init__.py": "",
        "tests/test_thing.py": "",
        **files,
    }
    return {path: TreeFile(text.encode()) for path, text in texts.items()}


def environments(index: Index, *, missing: str = "") -> Environments:
    def bootstrap(recipe: ImageRecipe) -> None:
        if recipe.base == missing:
            raise SandboxUnavailable("no mirror has it")

    return Environments("thing", resolver=index, bootstrap=bootstrap)


def test_a_tree_gets_an_image_of_its_time():
    index = Index()
    choice = environments(index).choose(tree_of("attrs"), "2022-03-05T10:00:00Z")
    assert choice.name == "py39-2022h1"
    assert choice.environment.image == ImageRecipe(
        "thing",
        requirements=("attrs==2022.01.01", "pytest==2022.01.01"),
        python="3.9",
        base="bullseye",
        provides=("Real.Thing==0.0.0",),
    )
    assert index.questions == [("3.9.2", "2022-01-01T00:00:00Z", "2022-07-01T00:00:00Z", "attrs")]
    assert choice.notes == ("a note",)


def test_parts_of_python_that_debian_packages_apart_are_asked_for_where_they_are_imported():
    files = {"tests/test_thing.py": "from distutils.version import LooseVersion\n"}
    chosen = environments(Index())
    old = chosen.choose(tree_of(**files), "2022-03-05T10:00:00Z")
    new = chosen.choose(tree_of(**files), "2026-03-05T10:00:00Z")
    assert old.environment.image.packages == ("python3-distutils",)
    assert new.environment.image.python == "3.13" and new.environment.image.packages == ()


def test_commits_of_a_half_year_that_ask_for_the_same_share_an_environment():
    index = Index()
    chosen = environments(index)
    first = chosen.choose(tree_of("attrs"), "2022-01-01T00:00:00Z")
    same = chosen.choose(tree_of("attrs", **{"thing/more.py": ""}), "2022-06-30T23:59:59Z")
    later = chosen.choose(tree_of("attrs"), "2022-07-01T00:00:00Z")
    other = chosen.choose(tree_of("attrs", "idna"), "2022-02-01T00:00:00Z")
    assert same.name == first.name and len(index.questions) == 3
    assert later.name == "py39-2022h2" and other.name.startswith("py39-2022h1-")
    assert (
        chosen.chosen == {choice.name: choice.environment for choice in (first, later, other)}
        and len(chosen.chosen) == 3
    )


def test_another_layout_is_another_environment_with_the_same_image():
    chosen = environments(Index())
    flat = chosen.choose(tree_of(), "2022-01-01T00:00:00Z")
    nested = chosen.choose(tree_of(**{"src/thing/__init__.py": ""}), "2022-01-01T00:00:00Z")
    assert flat.name != nested.name
    assert flat.environment.image == nested.environment.image
    assert nested.environment.tests.import_paths == ("src", ".")


def test_a_failure_is_told_again_without_asking_again():
    index = Index()
    chosen = environments(index)
    for _ in range(2):
        with pytest.raises(RegisterError, match="impossible cannot be had"):
            chosen.choose(tree_of("impossible"), "2022-01-01T00:00:00Z")
    assert len(index.questions) == 1 and chosen.chosen == {}


def test_a_base_that_cannot_be_made_gives_way_with_a_note():
    choice = environments(Index(), missing="bullseye").choose(tree_of(), "2022-01-01T00:00:00Z")
    assert choice.environment.image.base == "bookworm"
    assert choice.notes[0] == "Python 3.9 would fit, but its base cannot be made here: no mirror has it"


def test_a_python_that_no_base_has_is_one_line():
    tree = tree_of() | {"pyproject.toml": TreeFile(b"[project]\nrequires-python='<3'\n")}
    with pytest.raises(RegisterError, match="asks for Python <3"):
        environments(Index()).choose(tree, "2022-01-01T00:00:00Z")


def test_half_years_begin_in_january_and_july():
    assert half_year("2023-06-30T12:00:00Z")[0] == "2023h1"
    assert half_year("2023-07-01T00:00:00Z") == ("2023h2", "2023-07-01T00:00:00Z", "2024-01-01T00:00:00Z")


RECIPE = """
[image]
python = "3.13"
base = "trixie"
requirements = ["iniconfig==2.0.0"]
[tests]
import_paths = ["src"]
"""


def test_a_recipe_is_used_for_every_tree(tmp_path: Path):
    path = tmp_path / "my recipe.toml"
    path.write_text(RECIPE)
    fixed = load_recipe(path)
    assert fixed.image == ImageRecipe("my-recipe", ("iniconfig==2.0.0",), python="3.13", base="trixie")
    chosen = Environments("thing", fixed=fixed)
    choice = chosen.choose({"main.go": TreeFile(b"package main\n")}, "2022-01-01T00:00:00Z")
    assert choice.environment == fixed and choice.project.tests.import_paths == ("src",)
    assert chosen.chosen == {"my-recipe": fixed}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[image", "is not TOML"),
        ("[images]\n", "unknown key 'images'"),
        ("[image]\npyhton = '3.9'\n", "unknown key 'image.pyhton'"),
        ("[image]\nrequirements = 3\n", "image.requirements"),
        ("[image]\nrequirements = ['attrs>=3']\n", "'attrs>=3' is no exact pin"),
        ("image = 3\n", "image"),
        ("[tests]\nrunner = 'nose'\n", "tests"),
    ],
)
def test_a_recipe_that_is_wrong_says_where(tmp_path: Path, text: str, message: str):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(RegisterError, match=message) as caught:
        load_recipe(path)
    assert "\n" not in str(caught.value)


def test_a_recipe_that_is_not_there_is_one_line(tmp_path: Path):
    with pytest.raises(RegisterError, match="No such file"):
        load_recipe(tmp_path / "none.toml")
