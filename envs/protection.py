"""Which paths a policy may change, and which bytes may enter grading.

Protected are the tests, the files that configure the test framework or packaging, and CI. A policy may
change, remove or add them, as developers do: before grading they are put back, and its own tests are left
out, so they neither help nor harm. The lists hold names, so they are short and cannot be complete: what only
tests use, under whatever name, is recorded with each task (`Task.judges`). A Makefile is not protected (a
test command should call its program directly), nor are tests inside a source file, as in Rust.
"""

from __future__ import annotations

import fnmatch
import re
import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import PurePosixPath

_STEERING_NAMES = """
conftest.py pytest.ini .pytest.ini pytest.toml .pytest.toml tox.ini setup.cfg setup.py pyproject.toml
noxfile.py sitecustomize.py usercustomize.py .coveragerc
package.json deno.json bunfig.toml .npmrc .babelrc .taprc .nycrc karma.conf.js
go.mod go.work cargo.toml build.rs
pom.xml build.gradle build.gradle.kts settings.gradle settings.gradle.kts
composer.json phpunit.xml phpunit.xml.dist phpunit.dist.xml
.rspec .busted .proverc mix.exs
.travis.yml .gitlab-ci.yml .cirrus.yml .drone.yml appveyor.yml .appveyor.yml azure-pipelines.yml
bitbucket-pipelines.yml jenkinsfile
"""
_STEERING_PATTERNS = """
.mocharc.* jest.config.* vitest.config.* ava.config.* babel.config.* playwright.config.*
"""
_TEST_PATTERNS = """
*_test.go *_test.rb *_spec.rb *_spec.lua *_test.exs *_test.dart *.t
*[.-]test.[jt]s *[.-]test.[jt]sx *[.-]test.[cm][jt]s *[.-]spec.[jt]s *[.-]spec.[jt]sx *[.-]spec.[cm][jt]s
*Test.java *Tests.java *Test.kt *Tests.kt *Test.php *Test.scala *Spec.scala *Tests.cs
"""


def _any_of(patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(map(fnmatch.translate, patterns.split())))


STEERING = frozenset(_STEERING_NAMES.split())
"""File names, in lower case, that steer test runs or packaging, wherever they are."""

_STEERS = _any_of(_STEERING_PATTERNS)
_TESTS = _any_of(_TEST_PATTERNS)
_TEST_FOLDERS = frozenset(
    {"test", "tests", "__tests__", "__snapshots__", "testdata", "test-data", "test_data"}
)
_DATA_FOLDERS = frozenset({"testdata", "test-data", "test_data"})
_DATA = (".txt", ".csv", ".tsv", ".json", ".xml", ".toml", ".yaml", ".yml", ".md", ".html", ".dat", ".sql")
_TEST_FOLDERS_AT_THE_TOP = frozenset({"spec", "t"})  # deeper down, code may be called so
_TESTS_AT_THE_TOP = re.compile(r"tests?\.[cm]?[jt]s")
_STEERING_FOLDERS = frozenset({".github", ".gitlab", ".circleci", ".cargo"})
_STARTERS = frozenset({"sitecustomize", "usercustomize", "conftest"})
_NEVER_SUFFIXES = (".pyc", ".pyo", ".pyd", ".pth", ".so", ".dll", ".dylib", ".node", ".class", ".jar")
_NEVER_SUFFIXES += (".egg-link", ".whl", ".orig", ".rej")
_COMPILED = (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
_NEVER_ENDINGS = (".dist-info", ".egg-info", ".egg")
_NEVER_FOLDERS = {
    "node_modules": "installed packages",
    "site-packages": "installed packages",
    "__pypackages__": "installed packages",
    ".venv": "installed packages",
    "__pycache__": "caches",
    ".pytest_cache": "caches",
    ".hypothesis": "caches",
    ".tox": "caches",
    ".nox": "caches",
}


def is_steering(path: str) -> bool:
    """Whether a file configures how tests run. An added file of this kind is removed before grading."""
    parts = PurePosixPath(path).parts
    name = parts[-1].lower()
    starts = any(folder.lower() in _STARTERS for folder in parts[:-1])  # as a package
    return name in STEERING or parts[0] in _STEERING_FOLDERS or bool(_STEERS.match(name)) or starts


def is_test(path: str) -> bool:
    """Whether a file belongs to the tests by name or folder, in any of the known languages."""
    *folders, name = PurePosixPath(path).parts
    if any(folder.lower() in _TEST_FOLDERS for folder in folders):
        return True
    if is_test_module(path) or _TESTS.match(name):
        return True
    return (
        folders[0].lower() in _TEST_FOLDERS_AT_THE_TOP if folders else bool(_TESTS_AT_THE_TOP.fullmatch(name))
    )


def is_test_module(path: str) -> bool:
    """Whether a file contains Python tests that can be run by its name."""
    name = PurePosixPath(path).name
    return name.endswith(".py") and (
        name.startswith("test_") or name.endswith("_test.py") or name in ("test.py", "tests.py")
    )


def folders_of_tests(paths: Iterable[str]) -> frozenset[str]:
    """Return the folders that hold test modules."""
    return frozenset(str(PurePosixPath(path).parent) for path in paths if is_test_module(path))


def is_judging(path: str, folders: Collection[str]) -> bool:
    """Whether a test or its helper could take part in grading; `folders` are those of the test modules.

    A source file or data file that is merely called like a test, in a folder without tests, could not:
    `pkg/test_utils.py`, `pkg/testdata/words.txt`.
    """
    if not is_test(path):
        return False
    *names, name = PurePosixPath(path).parts
    if str(PurePosixPath(path).parent) in folders:
        return True
    kinds = {folder.lower() for folder in names} & _TEST_FOLDERS
    if name.endswith(".py"):
        return bool(kinds)
    # Programs of other languages may look for tests everywhere, by any of these names.
    return not name.endswith(_DATA) or not kinds <= _DATA_FOLDERS or _TESTS.match(name) is not None


def note(path: str, exists: bool, judges: Collection[str] = ()) -> str:
    """Return what an agent should know that changes this path; empty if nothing.

    `judges` are the files that only tests use. The note depends on names and on that list: it must not tell
    which protected files a task's reference changes.
    """
    if is_steering(path) or (exists and is_test(path)) or path in judges:
        return "tests and their settings are put back before grading, unless the task is about them"
    if is_test(path):
        return "tests of your own are not graded"
    reason = never_travels(path)
    return f"{reason} are not graded" if reason else ""


def is_protected(path: str) -> bool:
    """Whether only the reference patch may change this path."""
    return is_steering(path) or is_test(path)


def never_travels(path: str, data: bytes = b"") -> str:
    """Return why a path with this content can never be part of a submission; empty if it can."""
    pure = PurePosixPath(path)
    if any(part.lower() == ".git" for part in pure.parts):
        return "git's own files"
    if any(part.lower().endswith(_NEVER_ENDINGS) for part in pure.parts):
        return "installed-package metadata"
    if pure.name.lower().endswith(_NEVER_SUFFIXES):
        return "bytecode, binaries or path files"
    if data.startswith(_COMPILED):
        return "compiled programs"
    return next((_NEVER_FOLDERS[part] for part in pure.parts if part in _NEVER_FOLDERS), "")


def import_roots(paths: Collection[str], import_paths: Iterable[str]) -> frozenset[str]:
    """Return the folders from which modules are imported while the tests of a tree run.

    These are the declared folders, and of every folder of tests the nearest one, itself or above, that is no
    package: the test framework puts it first on the path.
    """
    found = set(import_paths)
    for folder in map(PurePosixPath, folders_of_tests(paths)):
        above = [folder, *folder.parents]
        found.add(next((str(place) for place in above if f"{place}/__init__.py" not in paths), "."))
    return frozenset(found)


def module_names(path: str, roots: Iterable[str]) -> Iterator[str]:
    """Yield the dotted names by which a Python file is imported, one for every root that it lies under."""
    if not path.endswith(".py"):
        return
    pure = PurePosixPath(path)
    module = pure.parent if pure.name == "__init__.py" else pure.with_suffix("")
    for root in roots:
        if module.is_relative_to(root) and (parts := module.relative_to(root).parts):
            yield ".".join(parts)


def standard_modules() -> frozenset[str]:
    """Return the names, in lower case, of modules that a tree never provides: Python's and pytest's."""
    ours = ("_pytest", "py", "pytest", "_hypothesis_pytestplugin")
    return frozenset({*map(str.lower, sys.stdlib_module_names), *ours})


def stands_in(path: str, roots: Iterable[str], taken: Collection[str]) -> bool:
    """Whether a new file would be imported in place of a module of `taken` (dotted names in lower case).

    Tests import from the tree first, so `hamcrest/__init__.py` beside the project would be their hamcrest. So
    would a package that was made of a folder above the module, `google/__init__.py` for `google.protobuf`.
    """
    names = [name.lower() for name in module_names(path, roots)]
    return any(name in taken or any(other.startswith(f"{name}.") for other in taken) for name in names)
