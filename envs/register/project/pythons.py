"""Choose the Python for a commit by the commit's date, among the Pythons of Debian's releases.

Release dates of Python versions are from PEPs 596, 664 and 719.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from sandboxes.syntax import syntax_tree

_ADOPTION = timedelta(days=365)
"""How long after a Python's release projects and their dependencies typically support that Python."""

_ONLY_PYTHON2 = frozenset(
    {"htmlentitydefs", "urllib2", "urlparse", "ConfigParser", "StringIO", "cPickle", "Queue", "__builtin__"}
)
_PRINT = re.compile(rb"^\s*print\s+[\"'\w]", re.MULTILINE)
_EXCEPT = re.compile(rb"^\s*except\s+[\w.()]+\s*,\s*\w+\s*:", re.MULTILINE)


@dataclass(frozen=True)
class Base:
    """A Debian release and the Python version in that release."""

    release: str
    python: str
    patch: int
    released: str
    """The release date of that Python, ISO 8601."""
    supported: str
    """The date from which pytest and its dependencies support that Python, ISO 8601."""

    @property
    def full_version(self) -> str:
        return f"{self.python}.{self.patch}"


BASES = (
    Base("bullseye", "3.9", 2, "2020-10-05", "2021-09-01"),
    Base("bookworm", "3.11", 2, "2022-10-24", "2022-11-01"),
    Base("trixie", "3.13", 5, "2024-10-07", "2024-11-01"),
)

APART = {"distutils": "python3-distutils", "lib2to3": "python3-lib2to3", "tkinter": "python3-tk"}
"""Standard-library modules that Debian omits from its Python, and the Debian packages that provide them."""
_GONE = {"distutils": (3, 12), "lib2to3": (3, 13)}
"""The Python version that removed the module; Debian has no package for that version and later ones."""


def packages_of(modules: Sequence[str], python: str) -> tuple[str, ...]:
    """Return the Debian packages of `APART` modules that the Python version (`3.11`) still has."""
    version = tuple(int(part) for part in python.split("."))
    return tuple(APART[module] for module in modules if version < _GONE.get(module, (99,)))


def preferred(specifier: str, classifiers: Sequence[str], when: str) -> tuple[Base, ...]:
    """Order the bases from most to least suitable for a commit at time `when` (ISO 8601).

    Allowed Pythons that were a year old come first, newest first; later Pythons follow, oldest first. Pythons
    that `specifier` forbids are absent; the result is empty when the specifier forbids all.
    """
    allowed = [base for base in BASES if allows(specifier, base.python)]
    time = datetime.fromisoformat(when).replace(tzinfo=None)
    named = _named(classifiers)
    fitting = [
        base
        for base in allowed
        if datetime.fromisoformat(base.released) + _ADOPTION <= time
        and (not named or _numbers(base.python) <= max(named))
    ]
    return (*reversed(fitting), *(base for base in allowed if base not in fitting))


def is_python2(sources: Iterable[bytes]) -> bool:
    """Whether code runs on Python 2 only: a file uses syntax or imports modules that Python 3 lacks.

    Imports inside a `try` or an `if` are ignored: such code supports both.
    """
    return any(_is_python2(source) for source in sources)


def _is_python2(source: bytes) -> bool:
    try:
        module = syntax_tree(source)
    except SyntaxError:
        return bool(_PRINT.search(source) or _EXCEPT.search(source))
    except (ValueError, RecursionError):
        return False
    needed = {alias.name for node in module.body if isinstance(node, ast.Import) for alias in node.names}
    needed |= {
        str(node.module) for node in module.body if isinstance(node, ast.ImportFrom) and not node.level
    }
    return not needed.isdisjoint(_ONLY_PYTHON2)


def allows(specifier: str, python: str) -> bool:
    """Whether a version specifier (PEP 440) admits some patch release of a Python, such as `3.11`."""
    series = SpecifierSet(f"~={python}.0")
    return not any(clause.is_disjoint(series) for clause in _clauses(specifier))


def _clauses(specifier: str) -> Iterator[SpecifierSet]:
    """Yield the valid clauses; `>=3.6.*`, which older installers accepted, becomes `>=3.6`."""
    for text in specifier.split(","):
        clause = re.sub(r"^(\s*[<>~].*?)\.\*", r"\1", text).replace("===", "==")
        with suppress(InvalidSpecifier):
            yield SpecifierSet(clause)


def _named(classifiers: Sequence[str]) -> set[tuple[int, ...]]:
    """Return the Python 3 versions of trove classifiers, such as `{(3, 9), (3, 10)}`."""
    found = (re.search(r":: (3\.\d+)\s*$", line) for line in classifiers)
    return {_numbers(match[1]) for match in found if match}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
