"""What a source tree says about itself is read from files only."""

from __future__ import annotations

from pathlib import Path

import pytest

from envs.register import RegisterError
from envs.register.project.project import needs_compiling, read_project
from envs.register.project.sources import Source, fetch_source
from envs.tasksets.trees import TreeFile


def source_of(files: dict[str, str], name: str = "thing") -> Source:
    return Source(
        name, "1.0", f"pypi:{name}==1.0", {path: TreeFile(text.encode()) for path, text in files.items()}
    )


def test_a_flat_library_is_understood(library: Path):
    project = read_project(fetch_source(str(library)))
    assert project.modules == ("tinylib/__init__.py", "tinylib/numbers.py", "tinylib/words.py")
    assert project.test_files == ("tests/test_numbers.py", "tests/test_words.py")
    assert project.tests.import_paths == (".",)
    assert project.requirements == ()


def test_a_src_library_is_imported_from_src():
    project = read_project(
        source_of(
            {
                "setup.py": "",
                "src/thing/__init__.py": "",
                "src/thing/tests/test_a.py": "",
                "docs/conf.py": "",
                "noxfile.py": "",
            }
        )
    )
    assert project.modules == ("src/thing/__init__.py",)
    assert project.test_files == ("src/thing/tests/test_a.py",)
    assert project.tests.import_paths == ("src", ".")


@pytest.mark.parametrize(
    "files",
    [
        {"PKG-INFO": "Metadata-Version: 2.1\nName: thing\nRequires-Dist: attrs>=22\n"
                     "Requires-Dist: hypothesis; extra == 'test'\nRequires-Dist: sphinx; extra == 'docs'\n"
                     "Requires-Dist: pytest<8; extra == 'test'\nRequires-Dist: thing[a]; extra == 'test'\n"},
        {"thing.egg-info/requires.txt": "attrs>=22\n\n[test]\nhypothesis\npytest-cov\n\n[docs]\nsphinx\n"},
        {"pyproject.toml": "[project]\nname='thing'\ndependencies=['attrs>=22']\n"
                           "[project.optional-dependencies]\ndocs=['sphinx']\n"
                           "[dependency-groups]\nbase=['hypothesis']\ntest=[{include-group='base'},'coverage']\n"},
        {"setup.cfg": "[options]\ninstall_requires =\n  attrs>=22\n[options.extras_require]\n"
                      "tests =\n  hypothesis\n  flake8-bugbear\ndocs = sphinx\n"},
    ],
    ids=["metadata", "egg-info", "pyproject", "setup.cfg"],
)  # fmt: skip
def test_requirements_are_found_wherever_a_project_keeps_them(files: dict[str, str]):
    common = {"setup.py": "", "thing/__init__.py": "", "tests/test_a.py": ""}
    assert read_project(source_of({**common, **files})).requirements == ("attrs>=22", "hypothesis")


def test_markers_beside_an_extra_are_kept():
    info = 'Name: thing\nRequires-Dist: tomli>=1; python_version < "3.11" and extra == "test"\n'
    files = {"PKG-INFO": info, "setup.py": "", "thing.py": "", "test_thing.py": ""}
    assert read_project(source_of(files)).requirements == ('tomli>=1; python_version < "3.11"',)


def test_plugins_that_tests_need_are_loaded_by_name():
    files = {
        "thing.py": "",
        "test_thing.py": "",
        "pyproject.toml": "[dependency-groups]\ntest=['pytest-mock']\n",
    }
    project = read_project(source_of(files))
    assert project.requirements == ("pytest-mock",)
    assert project.tests.plugins == ("pytest_mock",)


def test_what_a_build_would_have_generated_is_written():
    settings = "[tool.setuptools_scm]\nversion_file = 'src/thing/_version.py'\n"
    files = {
        "pyproject.toml": settings,
        "PKG-INFO": "Name: thing\nVersion: 1.0\n",
        "src/thing/__init__.py": "",
        "tests/test_a.py": "",
    }
    project = read_project(source_of(files))
    assert b"__version__" in project.tree["src/thing/_version.py"].data
    assert project.tree["src/thing.egg-info/PKG-INFO"] == project.tree["PKG-INFO"]
    assert len(project.notes) == 2


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"setup.py": "", "thing.py": ""}, "comes without tests"),
        ({"setup.py": "", "tests/test_a.py": ""}, "has no Python package"),
        ({"pyproject.toml": "[project", "thing.py": "", "test_a.py": ""}, "pyproject.toml cannot be read"),
    ],
)
def test_a_project_without_code_or_tests_is_one_clear_line(files: dict[str, str], message: str):
    with pytest.raises(RegisterError, match=message):
        read_project(source_of(files))


@pytest.mark.parametrize(
    ("folder", "settings", "name"),
    [
        ("My Lib_x", "", "my-lib-x"),
        ("x", "[project]\nname='Real.Name'\n", "real-name"),
        ("...", "", "library"),
    ],
)
def test_a_folder_gets_a_name_that_images_and_tasks_may_carry(folder: str, settings: str, name: str):
    files = {"pyproject.toml": TreeFile(settings.encode()), "a.py": TreeFile(b""), "test_a.py": TreeFile(b"")}
    assert read_project(Source(folder, "0", folder, files)).source.name == name


def test_sources_that_need_a_compiler_are_noticed():
    assert needs_compiling({"thing/fast.pyx": TreeFile(b"")})
    assert not needs_compiling({"thing/slow.py": TreeFile(b"")})
