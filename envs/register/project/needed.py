"""Select the requirements that a project's tests need, declared or not.

Runtime and test requirements count, except tools that cannot affect a test's outcome, such as linters.
Development requirements count only if code or tests import them or use their pytest plugins.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from .declared import Declared, canonical, name_of
from .imported import distribution_of, modules_in, modules_of, plugins_in
from .plugins import configured_plugins

_FRAMEWORK = frozenset({"pytest", "py", "pluggy", "iniconfig"})
# `requirements` chooses the test framework; linters, coverage and documentation cannot affect a test.
_NOT_NEEDED = re.compile(
    r"^(pytest|py|pluggy|iniconfig|pytest[-_](cov|xdist|checkdocs|ruff|mypy|enabler|flake8|black|sugar|codspeed|cache"
    r"|randomly|random-order|isort|pylint|pep8|pycodestyle|clarity|html|instafail|rerunfailures|reportlog"
    r"|runner|pretty|icdiff|parallel|picked|watch|github-actions-annotate-failures|travis-fold|mypy-plugins)"
    r"|coverage|coveralls|python-coveralls|codecov|codacy-coverage|tox|tox-.*|nox|detox"
    r"|flake8.*|pep8.*|pycodestyle|pydocstyle|pyflakes|pylint.*|black|isort|ruff|mypy|pyright|basedpyright|ty"
    r"|bandit|safety|types-.*|.*-stubs|autopep8|yapf|docformatter|pyupgrade|darglint|interrogate|vulture"
    r"|twine|build|check-manifest|pre-commit|bump2version|bumpversion|commitizen|towncrier|zest.releaser"
    r"|sphinx.*|furo|myst-parser|mkdocs.*|pydata-sphinx-theme|recommonmark|releases|readme-renderer|pip|pip-tools"
    r"|uv|poetry.*|hatch|hatchling|flit|flit-core|asv|pyperf|ipython|ipdb|pdbpp|jupyter.*|notebook|virtualenv|invoke"
    r"|unittest2|enum34|futures|pathlib2|typing|contextlib2|backports[-.]functools-lru-cache|python)$"
)


def needed(
    name: str,
    declared: Declared,
    configured: Mapping[str, Any],
    code: Sequence[bytes],
    tests: Sequence[bytes],
    *,
    local: frozenset[str],
) -> tuple[str, ...]:
    """Return the requirements that the tests need, sorted, such as `("attrs>=19", "pytest-mock")`.

    `code` and `tests` are contents of Python files, `configured` is pytest's configuration, and `local` holds
    the module names in the tree itself, which need no distribution.
    """
    used = _imports(tests) | _in_filters(configured)
    used |= {
        name for name in _imports(code) if distribution_of(name) == "setuptools"
    }  # once part of every environment
    if declared.computed and not declared.runtime:
        used |= _imports(code)
    mentioned = _imports([*code, *tests], optional=True)
    plugins = {plugin for data in tests for plugin in plugins_in(data)} | configured_plugins(configured)
    found = [*declared.runtime, *declared.test_requirements()]
    found += [
        line
        for line in declared.development_requirements()
        if modules_of(name_of(line)) & mentioned or name_of(line) in plugins
    ]
    own = {canonical(name), canonical(declared.name), ""}
    kept = {
        " ".join(line.split())
        for line in found
        if name_of(line) not in own and (not _NOT_NEEDED.match(name_of(line)) or _is_used(line, used))
    }
    present = {name_of(line) for line in kept} | own
    brought = {distribution_of(module) for module in used - local - sys.stdlib_module_names} | plugins
    return tuple(sorted(kept | (brought - present)))


def _imports(files: Sequence[bytes], *, optional: bool = False) -> set[str]:
    return {name for data in files for name in modules_in(data, optional=optional)}


def _in_filters(configured: Mapping[str, Any]) -> set[str]:
    """Return the modules of `filterwarnings`: pytest imports them at startup and fails without them."""
    lines = configured.get("filterwarnings", "")
    lines = lines.splitlines() if isinstance(lines, str) else list(map(str, lines))
    return {
        parts[2].strip().partition(".")[0]
        for line in lines
        if "." in (parts := [*line.split(":"), "", ""])[2]
    }


def _is_used(requirement: str, used: set[str]) -> bool:
    """Whether tests import a tool that `_NOT_NEEDED` would drop; the test framework is always dropped."""
    return name_of(requirement) not in _FRAMEWORK and bool(modules_of(name_of(requirement)) & used)
