"""Read a source tree into a `Project`: its modules, tests, requirements and import paths.

No code of the project runs and nothing is built, so a library that needs compiling cannot be registered.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from email.parser import HeaderParser
from pathlib import PurePosixPath
from typing import Any

from envs.protection import is_protected, is_test_module
from envs.tasksets.trees import Tree, TreeFile
from envs.testing.run import RunnerSetup

from ..errors import RegisterError, plain_name
from .declared import TEST_EXTRAS, Declared, canonical, merged
from .imported import modules_in
from .needed import needed
from .plugins import configuration, plugin_setup
from .pyproject import at, from_pyproject
from .pythons import APART
from .setup_files import from_setup_files
from .sources import Source

_NOT_CODE = frozenset(
    {"docs", "doc", "examples", "example", "benchmarks", "benchmark", "bench", "tools", "scripts", "ci"}
    | {"build", "dist", "test", "tests"}
)
_NOT_RUN = frozenset({"setup.py", "noxfile.py"})
_NOT_MODULES = frozenset({"setup.py", "conftest.py", "noxfile.py", "tasks.py", "versioneer.py", "fabfile.py"})


@dataclass(frozen=True)
class Project:
    """A library's source tree with its mutable modules, test files and requirements."""

    source: Source
    tree: Tree
    """The source's files, plus the files that a build would generate."""
    modules: tuple[str, ...]
    """Paths of the code that mutations may change, such as `src/attr/_make.py`."""
    test_files: tuple[str, ...]
    requirements: tuple[str, ...]
    """Requirements in the project's spelling, not resolved."""
    tests: RunnerSetup
    """How pytest runs: import paths, plugins and options."""
    notes: tuple[str, ...] = ()
    """One sentence for each generated file and each assumption."""
    distribution: str = ""
    """The distribution name of an installed copy."""
    python: str = ""
    """The declared Pythons, as a version specifier such as `>=3.9`."""
    classifiers: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()
    """Imported modules of the standard library that Debian packages separately, such as `tkinter`."""


def read_project(source: Source) -> Project:
    """Read a source tree into a `Project`.

    Raises RegisterError when the tree has no package, no tests, or an invalid `pyproject.toml`.
    """
    settings = _settings(source.tree)
    declared = merged([_from_built(source.tree), from_pyproject(settings), from_setup_files(source.tree)])
    source = replace(source, name=_distribution(source, settings))
    root = _root(source.tree, declared)
    tree, notes = completed(source.tree)
    notes += _add_metadata(tree, source, root)
    modules = _modules(tree, root)
    if not modules:
        raise RegisterError(f"{source.name} has no Python package at its top or under src")
    test_files = tuple(sorted(path for path in tree if is_test_module(path)))
    if not test_files:
        raise RegisterError(
            f"{source.name} {source.version} comes without tests (no test_*.py in it); try its repository"
        )
    configured = configuration(tree, settings)
    code = [tree[path].data for path in sorted({*_modules(tree, "."), *_modules(tree, root)})]
    tests = [tree[path].data for path in sorted(tree) if _takes_part(path)]
    requirements = needed(source.name, declared, configured, code, tests, local=_names(tree))
    plugins, options = plugin_setup(requirements, configured)
    return Project(
        source,
        tree,
        modules,
        test_files,
        requirements,
        RunnerSetup(
            import_paths=(".",) if root == "." else (root, "."),
            plugins=plugins,
            options=options,
        ),
        notes,
        distribution=declared.name or source.name,
        python=declared.python,
        classifiers=declared.classifiers,
        apart=tuple(sorted(APART.keys() & {name for data in (*code, *tests) for name in modules_in(data)})),
    )


def completed(tree: Tree) -> tuple[Tree, tuple[str, ...]]:
    """Return the tree with the version module that a build would generate from git, and a note on it."""
    settings = _settings(tree)
    scm = ("tool", "setuptools_scm")
    path = (
        at(settings, *scm, "version_file")
        or at(settings, *scm, "write_to")
        or at(settings, "tool", "hatch", "build", "hooks", "vcs", "version-file")
        or at(settings, "tool", "pdm", "version", "write_to")
        or _written_by_setup_script(tree)
    )
    if not isinstance(path, str) or path in tree or not path.endswith(".py"):
        return dict(tree), ()
    file = TreeFile(
        b'__version__ = version = "0.0.0"\n__version_tuple__ = version_tuple = (0, 0, 0)\n'
        b"__commit_id__ = commit_id = None\n"
    )
    return {**tree, path: file}, (f"wrote {path}, which a build would have generated",)


def _written_by_setup_script(tree: Tree) -> str:
    text = tree["setup.py"].data.decode("utf-8", "replace") if "setup.py" in tree else ""
    match = re.search(r"""["']?(?:write_to|version_file)["']?\s*[:=]\s*["']([\w./-]+)["']""", text)
    return match[1] if match else ""


def needs_compiling(tree: Mapping[str, TreeFile]) -> bool:
    """Whether the tree has C, C++, Cython or Rust sources."""
    return any(path.endswith((".pyx", ".c", ".cpp", ".rs")) for path in tree)


def _distribution(source: Source, settings: Mapping[str, Any]) -> str:
    """Return the library's name, restricted to the characters of image names and task ids."""
    named = at(settings, "project", "name")
    name = named if isinstance(named, str) and not source.origin.startswith("pypi:") else source.name
    return plain_name(canonical(name), "library")


def _root(tree: Tree, declared: Declared) -> str:
    """Return the folder that contains the packages, relative to the tree: `src`, or `.` for the top."""
    for folder in (declared.root.strip("./"), "src"):
        if folder and any(_is_under(path, folder) and path.endswith(".py") for path in tree):
            return folder
    return "."


def _modules(tree: Tree, root: str) -> tuple[str, ...]:
    found = []
    for path in tree:
        if root != "." and not _is_under(path, root):
            continue
        inside = path if root == "." else path.removeprefix(root + "/")
        parts = PurePosixPath(inside).parts
        if not path.endswith(".py") or is_protected(path):
            continue
        if parts[-1] in _NOT_MODULES or any(part.lower() in _NOT_CODE for part in parts[:-1]):
            continue
        top = PurePosixPath(parts[0], "__init__.py").as_posix()
        if root != "." or len(parts) == 1 or top in tree:
            found.append(path)
    return tuple(sorted(found))


def _takes_part(path: str) -> bool:
    """Whether a test run imports a Python file: a test, `conftest.py`, or a helper beside the tests."""
    return path.endswith(".py") and is_protected(path) and PurePosixPath(path).name not in _NOT_RUN


def _names(tree: Tree) -> frozenset[str]:
    """Return every folder and file name of the tree: imports of these names need no distribution."""
    return frozenset(part.removesuffix(".py") for path in tree for part in PurePosixPath(path).parts)


def _is_under(path: str, folder: str) -> bool:
    return path.startswith(folder + "/")


def _settings(tree: Tree) -> dict[str, Any]:
    if "pyproject.toml" not in tree:
        return {}
    try:
        return tomllib.loads(tree["pyproject.toml"].data.decode())
    except ValueError as error:
        raise RegisterError(f"its pyproject.toml cannot be read: {error}") from error


def _add_metadata(tree: Tree, source: Source, root: str) -> tuple[str, ...]:
    """Add `.egg-info` metadata: some libraries query `importlib.metadata` for their own version on import."""
    if "PKG-INFO" not in tree or any(_is_egg_info(path) for path in tree):
        return ()
    folder = "" if root == "." else root + "/"
    path = f"{folder}{source.name.replace('-', '_')}.egg-info/PKG-INFO"
    tree[path] = tree["PKG-INFO"]
    return (f"wrote {path}, which an installation would have added",)


def _is_egg_info(path: str) -> bool:
    return PurePosixPath(path).parent.name.endswith(".egg-info")


def _from_built(tree: Tree) -> Declared:
    """Read the metadata that the build of a source distribution wrote."""
    return Declared(runtime=(*_from_metadata(tree), *_from_egg_info(tree)))


def _from_metadata(tree: Tree) -> Iterable[str]:
    if "PKG-INFO" not in tree:
        return
    headers = HeaderParser().parsestr(tree["PKG-INFO"].data.decode("utf-8", "replace"))
    for line in headers.get_all("Requires-Dist", []):
        requirement, _, marker = line.partition(";")
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", marker)
        if extra is None:
            yield line
        elif extra.group(1).lower() in TEST_EXTRAS:
            rest = re.sub(r"(\s*and\s*)?" + re.escape(extra.group()), "", marker).strip(" ()")
            yield f"{requirement}; {rest}" if rest else requirement


def _from_egg_info(tree: Tree) -> Iterable[str]:
    for path in tree:
        if _is_egg_info(path) and path.endswith("/requires.txt"):
            section, marker = "", ""
            for line in tree[path].data.decode("utf-8", "replace").splitlines():
                if line.startswith("["):
                    section, _, marker = line.strip("[] ").partition(":")
                elif line.strip() and (not section or section.lower() in TEST_EXTRAS):
                    yield f"{line}; {marker}" if marker else line
