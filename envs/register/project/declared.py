"""A project's declared metadata: its name, Python versions, and dependencies for running and testing.

`pyproject` and `setup_files` parse declaration files into `Declared` records; `merged` combines the records.
No code of the project runs, so dependencies that `setup.py` computes stay unknown: `Declared.computed` marks
them. Example: `Declared(name="attrs", python=">=3.9", extras={"tests": ("hypothesis",)})`.
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
    """The folder that contains the packages, such as `src`; empty when not declared."""
    runtime: tuple[str, ...] = ()
    """Requirements of an installation, such as `idna>=2.5; python_version < "3.12"`."""
    tests: tuple[str, ...] = ()
    """Test requirements outside extras and groups."""
    development: tuple[str, ...] = ()
    """Requirements for developers, including linters and documentation tools."""
    extras: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Extras and dependency groups by lower-case name."""
    asked: frozenset[str] = frozenset()
    """Extras and groups that the test configuration installs."""
    computed: bool = False
    """Whether code computes the runtime requirements, at least in part."""
    named: tuple[str, ...] = ()
    """Text files named in `setup.py`, which may read requirements from them: `requirements.txt`."""

    def test_requirements(self) -> tuple[str, ...]:
        """Return the requirements for tests: `tests`, test extras and groups, and the extras in `asked`."""
        names = (self.asked | TEST_EXTRAS) & self.extras.keys()
        return (*self.tests, *self._expanded(sorted(names)))

    def development_requirements(self) -> tuple[str, ...]:
        """Return the requirements for development: of `development` and of development extras and groups."""
        return (*self.development, *self._expanded(sorted(DEVELOPMENT_EXTRAS & self.extras.keys())))

    def _expanded(self, names: Sequence[str]) -> Iterable[str]:
        """Yield the requirements of extras; an extra may include another: `attrs[tests]` within attrs."""
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
    """Merge declarations: lists are concatenated; of single values, the first that is set counts."""
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
    """Return a requirement's canonical distribution name (`PyYAML>=5` gives `pyyaml`), or an empty string."""
    match = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", requirement.strip())
    return canonical(match.group()) if match else ""


def without_pin(requirement: str) -> str:
    """Drop an exact version (`six==1.9` gives `six`): the commit's date determines versions instead."""
    return re.sub(
        r"^([\w.-]+\s*(?:\[[^\]]*\])?)\s*={2,3}\s*[^\s;,*]+(?=\s*(;|$))", r"\1", requirement
    ).strip()


def without_url(requirement: str) -> str:
    """Drop a direct URL (`six @ https://…` gives `six`), so that the package comes from the index."""
    return re.sub(r"\s*@\s*\S+://[^\s;]+", "", requirement).strip()
