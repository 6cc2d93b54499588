"""What a source tree says about itself: its code, its tests, what it needs, how it is imported.

Read from files only; nothing of the project is run and nothing is built. A library whose code has to be
compiled first cannot be registered this way.
"""

from __future__ import annotations

import ast
import configparser
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from email.parser import HeaderParser
from pathlib import PurePosixPath
from typing import Any

from envs.protection import is_protected
from envs.testing import RunnerSetup
from envs.trees import Tree, TreeFile

from .errors import RegisterError
from .mutate import parse
from .sources import Source

_NOT_CODE = frozenset(
    {"docs", "doc", "examples", "example", "benchmarks", "benchmark", "bench", "tools", "scripts", "ci"}
    | {"build", "dist", "test", "tests"}
)
_NOT_MODULES = frozenset({"setup.py", "conftest.py", "noxfile.py", "tasks.py", "versioneer.py", "fabfile.py"})
_TEST_EXTRAS = frozenset({"test", "tests", "testing"})
# Test frameworks are chosen here; linters and coverage decide nothing about a bug.
_NOT_NEEDED = re.compile(
    r"^(pytest|pytest[-_](cov|xdist|checkdocs|ruff|mypy|enabler|flake8|black|sugar|benchmark|codspeed|timeout)"
    r"|coverage|tox|flake8.*|black|ruff|mypy|types-.*|twine|build|check-manifest|pre-commit|codecov)$"
)
# Packages whose tests need them more often than their metadata says so.
_KNOWN_IMPORTS = frozenset({"hypothesis", "freezegun", "pytz", "parameterized"})
_PLUGINS = {
    "pytest-asyncio": "pytest_asyncio.plugin",
    "pytest-mock": "pytest_mock",
    "pytest-subtests": "pytest_subtests",
    "pytest-datadir": "pytest_datadir.plugin",
    "pytest-freezegun": "pytest_freezegun",
}


@dataclass(frozen=True)
class Project:
    """A library that can be tried: what to change, what to run, what it takes."""

    source: Source
    tree: Tree
    """The source's files, and the generated ones that a build would have added."""
    modules: tuple[str, ...]
    """Paths of the code that bugs may be put into."""
    test_files: tuple[str, ...]
    requirements: tuple[str, ...]
    """What it asks for, in its own words; not resolved."""
    tests: RunnerSetup
    notes: tuple[str, ...] = ()
    """What was added or assumed, one line each."""


def read_project(source: Source) -> Project:
    """Understand a source tree. Raises RegisterError when it has no code or no tests."""
    tree = dict(source.tree)
    root = "src" if any(_is_under(path, "src") and path.endswith(".py") for path in tree) else "."
    settings = _settings(tree)
    source = replace(source, name=_distribution(source, settings))
    notes = _add_version_file(tree, settings) + _add_metadata(tree, source, root)
    modules = _modules(tree, root)
    if not modules:
        raise RegisterError(f"{source.name} has no Python package at its top or under src")
    test_files = tuple(sorted(path for path in tree if _is_test_file(path)))
    if not test_files:
        raise RegisterError(
            f"{source.name} {source.version} comes without tests (no test_*.py in it); try its repository"
        )
    requirements = _requirements(tree, source, settings)
    plugins = tuple(
        sorted(_PLUGINS[name] for name in {_name(each) for each in requirements} & _PLUGINS.keys())
    )
    paths = (".",) if root == "." else (root, ".")
    return Project(
        source,
        tree,
        modules,
        test_files,
        requirements,
        RunnerSetup(import_paths=paths, plugins=plugins),
        notes,
    )


def needs_compiling(tree: Mapping[str, TreeFile]) -> bool:
    """Whether there are sources that only a compiler turns into modules."""
    return any(path.endswith((".pyx", ".c", ".cpp", ".rs")) for path in tree)


def canonical(name: str) -> str:
    """A distribution's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _distribution(source: Source, settings: Mapping[str, Any]) -> str:
    """The library's name as it may stand in image names and task ids."""
    named = _at(settings, "project", "name")
    name = named if isinstance(named, str) and not source.origin.startswith("pypi:") else source.name
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "library"


def _modules(tree: Tree, root: str) -> tuple[str, ...]:
    found = []
    for path in tree:
        inside = path.removeprefix("src/") if root == "src" else path
        parts = PurePosixPath(inside).parts
        if not path.endswith(".py") or is_protected(path) or (root == "src" and inside == path):
            continue
        if parts[-1] in _NOT_MODULES or any(part.lower() in _NOT_CODE for part in parts[:-1]):
            continue
        top = PurePosixPath(parts[0], "__init__.py").as_posix()
        if root == "src" or len(parts) == 1 or top in tree:
            found.append(path)
    return tuple(sorted(found))


def _is_test_file(path: str) -> bool:
    name = PurePosixPath(path).name
    return is_protected(path) and (
        (name.startswith("test_") and name.endswith(".py")) or name.endswith("_test.py") or name == "tests.py"
    )


def _is_under(path: str, folder: str) -> bool:
    return path.startswith(folder + "/")


def _settings(tree: Tree) -> dict[str, Any]:
    if "pyproject.toml" not in tree:
        return {}
    try:
        return tomllib.loads(tree["pyproject.toml"].data.decode())
    except ValueError as error:
        raise RegisterError(f"its pyproject.toml cannot be read: {error}") from error


def _at(settings: Mapping[str, Any], *keys: str) -> Any:
    value: Any = settings
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _add_version_file(tree: Tree, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Write the version file that a build would have generated from git."""
    scm = ("tool", "setuptools_scm")
    path = (
        _at(settings, *scm, "version_file")
        or _at(settings, *scm, "write_to")
        or _at(settings, "tool", "hatch", "build", "hooks", "vcs", "version-file")
    )
    if not isinstance(path, str) or path in tree:
        return ()
    tree[path] = TreeFile(b'__version__ = version = "0"\n__version_tuple__ = version_tuple = (0,)\n')
    return (f"wrote {path}, which a build would have generated",)


def _add_metadata(tree: Tree, source: Source, root: str) -> tuple[str, ...]:
    """Lay metadata beside the code, for libraries that ask for their own version when imported."""
    if "PKG-INFO" not in tree or any(_is_egg_info(path) for path in tree):
        return ()
    folder = "" if root == "." else root + "/"
    path = f"{folder}{source.name.replace('-', '_')}.egg-info/PKG-INFO"
    tree[path] = tree["PKG-INFO"]
    return (f"wrote {path}, which an installation would have added",)


def _is_egg_info(path: str) -> bool:
    return PurePosixPath(path).parent.name.endswith(".egg-info")


def _requirements(tree: Tree, source: Source, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Runtime and test requirements, from wherever this project keeps them."""
    found = [*_from_metadata(tree), *_from_egg_info(tree), *_from_pyproject(settings), *_from_setup_cfg(tree)]
    found += sorted(_imported(tree) & _KNOWN_IMPORTS)
    names = {canonical(source.name), ""}
    kept = {each.strip() for each in found if _name(each) not in names and not _NOT_NEEDED.match(_name(each))}
    return tuple(sorted(kept))


def _name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", requirement.strip())
    return canonical(match.group()) if match else ""


def _from_metadata(tree: Tree) -> Iterable[str]:
    if "PKG-INFO" not in tree:
        return
    headers = HeaderParser().parsestr(tree["PKG-INFO"].data.decode("utf-8", "replace"))
    for line in headers.get_all("Requires-Dist", []):
        requirement, _, marker = line.partition(";")
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", marker)
        if extra is None:
            yield line
        elif extra.group(1).lower() in _TEST_EXTRAS:
            rest = re.sub(r"(\s*and\s*)?" + re.escape(extra.group()), "", marker).strip(" ()")
            yield f"{requirement}; {rest}" if rest else requirement


def _from_egg_info(tree: Tree) -> Iterable[str]:
    for path in tree:
        if _is_egg_info(path) and path.endswith("/requires.txt"):
            section, marker = "", ""
            for line in tree[path].data.decode("utf-8", "replace").splitlines():
                if line.startswith("["):
                    section, _, marker = line.strip("[] ").partition(":")
                elif line.strip() and (not section or section.lower() in _TEST_EXTRAS):
                    yield f"{line}; {marker}" if marker else line


def _from_pyproject(settings: Mapping[str, Any]) -> Iterable[str]:
    yield from _strings(_at(settings, "project", "dependencies"))
    for extra, lines in (_at(settings, "project", "optional-dependencies") or {}).items():
        if extra.lower() in _TEST_EXTRAS:
            yield from _strings(lines)
    groups = _at(settings, "dependency-groups") or {}
    for group in groups:
        if group.lower() in _TEST_EXTRAS:
            yield from _group(groups, group, seen=set())


def _group(groups: Mapping[str, Any], name: str, *, seen: set[str]) -> Iterable[str]:
    seen.add(name)
    for line in groups.get(name) or ():
        if isinstance(line, str):
            yield line
        elif isinstance(line, Mapping) and line.get("include-group") not in {*seen, None}:
            yield from _group(groups, line["include-group"], seen=seen)


def _from_setup_cfg(tree: Tree) -> Iterable[str]:
    if "setup.cfg" not in tree:
        return
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(tree["setup.cfg"].data.decode("utf-8", "replace"))
    except configparser.Error:
        return
    yield from parser.get("options", "install_requires", fallback="").splitlines()
    if parser.has_section("options.extras_require"):
        for extra, lines in parser.items("options.extras_require"):
            if extra.lower() in _TEST_EXTRAS:
                yield from lines.splitlines()


def _strings(value: Any) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _imported(tree: Tree) -> set[str]:
    """Top-level names that the tests import."""
    names: set[str] = set()
    for path in tree:
        module = parse(tree[path].data) if path.endswith(".py") and is_protected(path) else None
        for node in ast.walk(module) if module else ():
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    return names
