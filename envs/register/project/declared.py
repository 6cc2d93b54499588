"""What a project's files declare: its name, its Python, what it needs to run and to be tested.

The files are read one kind at a time (`pyproject`, `setup_files`), each into a `Declared`, and put together
here. Nothing of the project is run, so what code computes stays unknown; `Declared.computed` says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from packaging.utils import canonicalize_name as canonical

TEST_EXTRAS = frozenset({"test", "tests", "testing", "unittest", "unittests", "pytest"})
DEVELOPMENT_EXTRAS = frozenset({"dev", "devel", "develop", "development", "default"})


@dataclass(frozen=True)
class Declared:
    """What one file says, or all of them together. Requirements are kept in the project's own words."""

    name: str = ""
    python: str = ""
    """Which Pythons it allows, as a version specifier; empty when nothing is said."""
    classifiers: tuple[str, ...] = ()
    root: str = ""
    """The folder that packages lie in, where one is named."""
    runtime: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    """What is said to be for tests, extras and groups aside."""
    development: tuple[str, ...] = ()
    """Named for developers in general: linters and documentation tools are among them."""
    extras: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Extras and dependency groups by lower-case name."""
    asked: frozenset[str] = frozenset()
    """Extras and groups that the test configuration installs."""
    computed: bool = False
    """What it needs to run is computed by code, at least in part."""
    named: tuple[str, ...] = ()
    """Text files that this code names: it may read requirements from them."""

    def test_requirements(self) -> tuple[str, ...]:
        """Return what is for tests: said so, in an extra or group named so, or installed by the test runs."""
        names = (self.asked | TEST_EXTRAS) & self.extras.keys()
        return (*self.tests, *self._expanded(sorted(names)))

    def development_requirements(self) -> tuple[str, ...]:
        return (*self.development, *self._expanded(sorted(DEVELOPMENT_EXTRAS & self.extras.keys())))

    def _expanded(self, names: Sequence[str]) -> Iterable[str]:
        """The lines of extras; an extra may ask for others by the project's own name."""
        waiting, seen = list(names), set(names)
        while waiting:
            for line in self.extras.get(waiting.pop(0), ()):
                match = re.match(r"\s*([\w.-]+)\s*\[([^\]]*)\]", line)
                if match and self.name and canonical(match[1]) == canonical(self.name):
                    inner = {each.strip().lower() for each in match[2].split(",")} - seen
                    waiting += sorted(inner)
                    seen |= inner
                else:
                    yield line


def merged(parts: Iterable[Declared]) -> Declared:
    """Put the files' declarations together; of what can be said once, the first counts."""
    total = Declared()
    for part in parts:
        extras = dict(total.extras)
        for name, lines in part.extras.items():
            extras[name] = (*extras.get(name, ()), *lines)
        total = Declared(
            name=total.name or part.name,
            python=total.python or part.python,
            classifiers=total.classifiers or part.classifiers,
            root=total.root or part.root,
            runtime=(*total.runtime, *part.runtime),
            tests=(*total.tests, *part.tests),
            development=(*total.development, *part.development),
            extras=extras,
            asked=total.asked | part.asked,
            computed=total.computed or part.computed,
        )
    return total


def name_of(requirement: str) -> str:
    """The canonical name that a requirement begins with; empty when it begins with none."""
    match = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", requirement.strip())
    return canonical(match.group()) if match else ""


def without_pin(requirement: str) -> str:
    """Drop an exact version: a pin in a file for tools is a date, and the date is known better."""
    return re.sub(
        r"^([\w.-]+\s*(?:\[[^\]]*\])?)\s*={2,3}\s*[^\s;,*]+(?=\s*(;|$))", r"\1", requirement
    ).strip()


def without_url(requirement: str) -> str:
    """Ask the index for what was to come from an URL."""
    return re.sub(r"\s*@\s*\S+://[^\s;]+", "", requirement).strip()
