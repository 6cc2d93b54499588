"""What projects declare is read from their files, whichever tool they were written for."""

from __future__ import annotations

import tomllib

import pytest

from envs.register.project.declared import Declared, merged, without_pin
from envs.register.project.pyproject import from_pyproject, poetry_specifier
from envs.register.project.setup_files import from_setup_files
from envs.tasksets.trees import Tree, TreeFile


def tree_of(files: dict[str, str]) -> Tree:
    return {path: TreeFile(text.encode()) for path, text in files.items()}


def test_the_standards_tables_are_read():
    found = from_pyproject(
        tomllib.loads(
            "[project]\nname='thing'\nrequires-python='>=3.8'\ndependencies=['attrs>=22']\n"
            "classifiers=['Programming Language :: Python :: 3.9']\n"
            "[project.optional-dependencies]\nTests=['thing[fast]', 'hypothesis']\nfast=['orjson']\n"
            "[dependency-groups]\ndev=['rich', {include-group='more'}]\nmore=['tabulate']\n"
            "[tool.setuptools.package-dir]\n''='lib'\n"
        )
    )
    assert (found.name, found.python, found.runtime, found.root) == ("thing", ">=3.8", ("attrs>=22",), "lib")
    assert found.test_requirements() == ("hypothesis", "orjson")
    assert found.development_requirements() == ("rich", "tabulate")


def test_poetrys_tables_are_read():
    found = from_pyproject(
        tomllib.loads(
            "[tool.poetry]\nname='thing'\n[tool.poetry.dependencies]\npython='^3.7'\nattrs='^22.1'\n"
            "orjson={version='>=3', optional=true}\ntomli={version='*', python='<3.11'}\n"
            "[tool.poetry.group.test.dependencies]\nhypothesis={version='~6.1', extras=['cli']}\n"
            "[tool.poetry.dev-dependencies]\nrich='13.0'\n[tool.poetry.extras]\ntests=['orjson']\n"
        )
    )
    assert found.python == ">=3.7,<4"
    assert found.runtime == ("attrs>=22.1,<23", 'tomli; python_version < "3.11"')
    assert found.test_requirements() == ("hypothesis[cli]>=6.1,<6.2", "orjson>=3")
    assert found.development_requirements() == ("rich==13.0",)


@pytest.mark.parametrize(
    ("constraint", "specifier"),
    [
        ("^1.2.3", ">=1.2.3,<2"),
        ("^0.2.3", ">=0.2.3,<0.3"),
        ("~1.2", ">=1.2,<1.3"),
        ("~2.7 || ^3.5", ">=3.5,<4"),
        (">=3.6, <4", ">=3.6,<4"),
        ("*", ""),
        ("1.0", "==1.0"),
    ],
)
def test_poetrys_constraints_become_specifiers(constraint: str, specifier: str):
    assert poetry_specifier(constraint) == specifier


def test_tables_of_other_tools_are_read():
    found = from_pyproject(
        tomllib.loads(
            "[tool.flit.metadata]\nmodule='thing'\nrequires=['attrs']\n[tool.flit.metadata.requires-extra]\n"
            "test=['responses']\n[tool.pdm.dev-dependencies]\ntests=['mock']\n"
            "[tool.uv]\ndev-dependencies=['rich']\n"
            "[tool.hatch.envs.test]\ndependencies=['freezegun']\nfeatures=['cli']\n"
        )
    )
    assert found.test_requirements() == ("freezegun", "responses", "mock")
    assert found.asked == {"cli"} and found.development == ("rich",)


SETUP = """
import sys
from setuptools import find_packages, setup
VERSION = "1"
common = ["attrs>=19"]
extras = {"dev": ["black"]}
extras["tests"] = ["mock"] + common
common.append("six")
if sys.version_info < (3,):
    common += ["enum34"]
options = dict(python_requires=">=3.6", package_dir={"": "src"})
setup(
    name="thing", version=VERSION, packages=find_packages("src"), install_requires=common + ["idna"],
    tests_require=["pytest", "responses"], extras_require=extras, **options
)
raise SystemExit("this is never run")
"""


def test_a_setup_script_is_read_and_not_run():
    found = from_setup_files(tree_of({"setup.py": SETUP}))
    assert (found.name, found.python, found.root, found.computed) == ("thing", ">=3.6", "src", False)
    assert found.runtime == ("attrs>=19", "six", "idna")
    assert found.test_requirements() == ("pytest", "responses", "mock", "attrs>=19")


def test_what_a_setup_script_computes_is_looked_for_in_its_requirements_file():
    files = {
        "setup.py": "setup(name='thing', install_requires=open('requirements.txt').read().split())",
        "requirements.txt": "attrs==22.1  # for classes\n-e .\n",
    }
    found = from_setup_files(tree_of(files))
    assert found.computed and found.runtime == ("attrs",)


def test_files_of_requirements_that_a_setup_script_reads_are_found_wherever_they_are():
    script = "needs = read('thing/requirements.txt')\nneeds.extend(read('thing/requirements_web.txt'))\n"
    script += "more = read('thing/requirements_dev.txt')\nsetup(name='thing', install_requires=needs)\n"
    files = {
        "setup.py": script,
        "requirements.txt": "sphinx\n",
        "thing/requirements.txt": "six>=1.10\n",
        "thing/requirements_web.txt": "bottle\n",
        "thing/requirements_dev.txt": "mock\n",
    }
    found = from_setup_files(tree_of(files))
    assert found.runtime == ("six>=1.10", "bottle") and "mock" in found.development


def test_setup_cfg_and_tox_are_read():
    files = {
        "setup.cfg": "[metadata]\nname = thing\n[options]\npython_requires = >=3.6\n"
        "install_requires =\n  attrs\n"
        "tests_require = mock\n[options.extras_require]\ncli = click\n",
        "tox.ini": "[base]\ndeps = idna\n[testenv]\nextras = cli\ndeps =\n  {[base]deps}\n  py27: unittest2\n"
        "  py3{6,7}: freezegun\n  -r{toxinidir}/requirements/test.txt\n  .[more]\n  django2: Django<3\n",
        "requirements/test.txt": "-r ../base.txt\nresponses==0.9 --hash=sha256:00 \\\n  --hash=sha256:11\n",
        "base.txt": "six>=1.10 ; python_version > '3'\ngit+https://x/y.git\n",
    }
    found = from_setup_files(tree_of(files))
    assert found.runtime == ("attrs",) and found.asked == {"cli", "more"}
    wanted = {"mock", "idna", "freezegun", "six>=1.10 ; python_version > '3'", "responses", "click"}
    assert set(found.test_requirements()) == wanted


def test_files_of_requirements_are_told_apart_by_name():
    files = {
        "requirements-dev.txt": "rich\n",
        "test-requirements.txt": "mock\n",
        "requirements/tests.in": "idna\n",
        "requirements/tests.txt": "idna==3.0\nsix==1.0\n",
        "requirements/docs.txt": "sphinx\n",
    }
    found = from_setup_files(tree_of(files))
    assert set(found.tests) == {"mock", "idna"} and found.development == ("rich",)


def test_only_exact_pins_are_dropped():
    assert without_pin("a-b[c] == 1.0 ; python_version<'3'") == "a-b[c] ; python_version<'3'"
    assert [without_pin(requirement) for requirement in ("a>=1", "a==1.*", "a==1")] == ["a>=1", "a==1.*", "a"]


def test_of_what_can_be_said_once_the_first_counts():
    total = merged([Declared(name="a", extras={"x": ("1",)}), Declared(name="b", extras={"x": ("2",)})])
    assert total.name == "a" and total.extras == {"x": ("1", "2")}
