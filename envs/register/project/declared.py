"""A project's declared metadata: its name, Python versions, and dependencies for running and testing.

`pyproject` and `setup_files` read one kind of file each into a `Declared`; `merged` combines them. No code of
the project runs, so computed dependencies stay unknown, and `Declared.computed` is set.
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
    """The declarations of one file, or of all files merged. Requirements keep the project's spelling."""

    name: str = ""
    python: str = ""
    """The allowed Pythons, as a version specifier; empty when not declared."""
    classifiers: tuple[str, ...] = ()
    root: str = ""
    """The folder that packages lie in, where one is named."""
    runtime: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    """Test requirements outside extras and groups."""
    development: tuple[str, ...] = ()
    """Requirements for developers, linters and documentation tools among them."""
    extras: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Extras and dependency groups by lower-case name."""
    asked: frozenset[str] = frozenset()
    """Extras and groups that the test configuration installs."""
    computed: bool = False
    """Runtime requirements are computed by code, at least in part."""
    named: tuple[str, ...] = ()
    """Text files that this code names: it may read requirements from them."""

    def test_requirements(self) -> tuple[str, ...]:
        """Return requirements declared for tests, in a test extra or group, or installed by the test runs."""
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
                    inner = {extra.strip().lower() for extra in match[2].split(",")} - seen
                    waiting += sorted(inner)
                    seen |= inner
                else:
                    yield line


def merged(parts: Iterable[Declared]) -> Declared:
    """Merge declarations; for single values, the first counts."""
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
    """Drop an exact version: versions are chosen by the commit's date instead."""
    return re.sub(
        r"^([\w.-]+\s*(?:\[[^\]]*\])?)\s*={2,3}\s*[^\s;,*]+(?=\s*(;|$))", r"\1", requirement
    ).strip()


def without_url(requirement: str) -> str:
    """Drop a URL, so that the package comes from the index."""
    return re.sub(r"\s*@\s*\S+://[^\s;]+", "", requirement).strip()
