"""Resolve a project's requirements to exact pins for its image.

uv resolves without installing. Only wheels are eligible, so that nothing is built. The library under test
must not be installed as a dependency of another package: the installed copy would leak the solution.

For a past commit, a version is eligible if its upload time on the index precedes the commit's date. If
nothing resolves, the constraints are relaxed step by step, and each step adds a note.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from sandboxes.syntax import literal

from ..errors import RegisterError
from .declared import canonical, name_of

PYTEST = "pytest==9.2.0"
"""The test framework of libraries registered at their current state, not at a past commit."""
PYTEST_OF_ITS_TIME = "pytest>=6.2"
"""The test framework at a past commit; `envs.testing.programs.pytest_program` needs 6.2 or later."""
RESOLVE_S = 180.0
"""Deadline for one run of the resolver."""
_ROUNDS = 3
"""How many times single packages are relaxed before all are."""
_FRAMEWORK: tuple[str, ...] = (
    "pytest",
    "attrs",
    "iniconfig",
    "packaging",
    "pluggy",
    "py",
    "pyparsing",
    "toml",
    "tomli",
)
"""pytest and its dependencies; newer than the commit if the image's Python is newer than the commit."""


@dataclass(frozen=True)
class Wanted:
    """A resolver query: requirements and constraints.

    Example: `Wanted("attrs", ("pytest>=6.2", "six"), "3.9.2", "2021-05-06T00:00:00Z")`.
    """

    name: str
    """The library under test."""
    requirements: tuple[str, ...]
    """pytest first, then the project's requirements."""
    python: str = "3.11.2"
    before: str = ""
    """ISO 8601; later uploads are ignored. Empty: no limit."""
    later: Mapping[str, str] = field(default_factory=dict)
    """Upload limits of single packages, which override `before`; an empty time is no limit."""
    excluded: tuple[str, ...] = ()
    """Packages that are never installed, even as dependencies of others."""


@dataclass(frozen=True)
class Resolution:
    """Exact pins of the requirements and all their dependencies, such as `six==1.16.0`."""

    pins: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """One sentence for each relaxed constraint."""


class Unresolvable(RegisterError):
    """No set of versions satisfies the constraints. Takes one sentence."""


def resolve(name: str, requirements: Sequence[str], *, timeout_s: float = RESOLVE_S) -> tuple[str, ...]:
    """Pin `requirements`, pytest and their dependencies to current versions, as `name==version`, sorted.

    Raises RegisterError when no versions fit, or when the pins would include the library itself.
    """
    try:
        pins = compiled(Wanted(name, (PYTEST, *requirements)), timeout_s=timeout_s)
    except Unresolvable as error:
        raise _shortened(error) from None
    if _holds(pins, name):
        raise RegisterError(
            f"{name} is needed by its own tests' tools, so an installed copy would give the answers away; "
            "choose another library"
        )
    return pins


def resolve_as_of(
    name: str,
    requirements: Sequence[str],
    *,
    python: str,
    dates: Sequence[str],
    supported: str,
    timeout_s: float = RESOLVE_S,
) -> Resolution:
    """Pin `requirements`, pytest and their dependencies to versions of a past date (ISO 8601).

    Constraints are relaxed in this order until the resolver succeeds:
    1. Each of `dates` is the upload limit of all packages.
    2. A package that the error message names and that does not resolve alone gets the `supported` date of the
       Python as its limit, then no limit, then no version bound, and is finally dropped.
    3. All packages get the `supported` date as their limit, then no limit.

    Raises RegisterError with the resolver's last error.
    """

    def of(date: str) -> Wanted:
        times = dict.fromkeys(_framework(requirements), supported) if date < supported else {}
        return Wanted(name, (PYTEST_OF_ITS_TIME, *requirements), python, date, times)

    reason = RegisterError("")
    for place, date in enumerate(dates):
        try:
            notes = () if place == 0 else (f"dependencies are of {date[:10]}: older ones do not fit",)
            return _without_itself(of(date), notes, timeout_s)
        except Unresolvable as error:
            reason = error
    attempt, notes = of(dates[-1]), tuple[str, ...]()
    for _ in range(_ROUNDS):
        attempt, added = _mended(attempt, _suspects(reason, attempt), supported, timeout_s)
        notes += added
        if not added:
            break
        try:
            return _without_itself(attempt, notes, timeout_s)
        except Unresolvable as error:
            reason = error
    for before in (max(dates[-1], supported), ""):
        widened = (*notes, f"dependencies are of {before[:10] or 'today'}: older ones do not fit")
        later = attempt.later if before else {}
        try:
            return _without_itself(replace(attempt, before=before, later=later), widened, timeout_s)
        except Unresolvable as error:
            reason = error
    raise _shortened(reason)


def _suspects(reason: RegisterError, wanted: Wanted) -> set[str]:
    """Return the names of requirements in an error message, or all names when the message has none."""
    names = {name_of(line) for line in wanted.requirements[1:]}
    return {
        name for name in names if re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", str(reason))
    } or names


def _shortened(reason: RegisterError) -> RegisterError:
    text = str(reason)
    return RegisterError(text if len(text) <= 300 else text[:300] + " …")


def _framework(requirements: Sequence[str]) -> set[str]:
    return {*_FRAMEWORK} - {name_of(line) for line in requirements}


def _mended(
    wanted: Wanted, suspects: Set[str], supported: str, timeout_s: float
) -> tuple[Wanted, tuple[str, ...]]:
    """Relax each suspected requirement to the first constraint under which the requirement resolves alone."""
    kept, later, notes = [PYTEST_OF_ITS_TIME], dict(wanted.later), list[str]()
    for line in wanted.requirements[1:]:
        name = name_of(line)
        if name not in suspects:
            kept.append(line)
            continue
        bare = name + "".join(line.partition(";")[1:])
        for date, text, note in (
            (wanted.before, line, ""),
            (max(wanted.before, supported), line, f"{name} is of {supported[:10]}: older ones do not fit"),
            ("", line, f"{name} is of today: older ones do not fit"),
            ("", bare, f"{name} is of today, whatever version was asked for: {line}"),
        ):
            times = {**later, name: date} if date != wanted.before else later
            alone = replace(wanted, requirements=(text,), later=times, before=date)
            with suppress(Unresolvable):
                compiled(alone, timeout_s=timeout_s)
                kept.append(text)
                later = times
                notes += [note] if note else []
                break
        else:
            notes.append(f"{line} is left out: there is no wheel of it for this Python")
    return replace(wanted, requirements=tuple(kept), later=later), tuple(notes)


def _without_itself(wanted: Wanted, notes: tuple[str, ...], timeout_s: float) -> Resolution:
    """Resolve without the library under test. Raises RegisterError when pytest depends on the library."""
    pins = compiled(wanted, timeout_s=timeout_s)
    if not _holds(pins, wanted.name):
        return Resolution(pins, notes)
    framework = replace(wanted, requirements=wanted.requirements[:1])
    if _holds(compiled(framework, timeout_s=timeout_s), wanted.name):
        raise RegisterError(
            f"the test framework itself needs {wanted.name}, so an installed copy would give the answers away"
        )
    pins = compiled(replace(wanted, excluded=(wanted.name,)), timeout_s=timeout_s)
    note = f"{wanted.name} is left out, though a package of its tests asks for it: its own tree is used"
    return Resolution(pins, (*notes, note))


def _holds(pins: Sequence[str], name: str) -> bool:
    return any(name_of(pin) == canonical(name) for pin in pins)


def compiled(wanted: Wanted, *, timeout_s: float) -> tuple[str, ...]:
    """Run the resolver once. Raises Unresolvable; RegisterError when the index does not answer."""
    machine = platform.machine()
    command = [sys.executable, "-m", "uv", "pip", "compile", "-", "--no-header", "--no-annotate", "--quiet"]
    command += ["--only-binary", ":all:", "--python-version", wanted.python, "--no-python-downloads"]
    command += ["--python-platform", f"{machine}-manylinux_2_28", "--color", "never", "--no-progress"]
    command += ["--exclude-newer", wanted.before] if wanted.before else []
    for name, time in wanted.later.items():
        command += ["--exclude-newer-package", f"{name}={time or '2100-01-01'}"]
    arguments, environment = index_settings()
    with tempfile.TemporaryDirectory(
        prefix="daythree-resolve-"
    ) as folder:  # so that uv finds no project's settings
        if wanted.excluded:
            (Path(folder) / "excluded.txt").write_text("\n".join(wanted.excluded) + "\n")
            command += ["--excludes", "excluded.txt"]
        try:
            done = subprocess.run(
                [*command, *arguments],
                input="\n".join(wanted.requirements) + "\n",
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
                cwd=folder,
                env={**os.environ, **environment},
            )
        except subprocess.TimeoutExpired:
            raise RegisterError(
                f"the package index did not resolve the requirements of {wanted.name} "
                f"within {timeout_s:.0f} s; try again"
            ) from None
    if done.returncode:
        raise _failure(wanted.name, done.stderr)
    lines = [line.split(";")[0].strip() for line in done.stdout.splitlines()]
    return tuple(sorted(line for line in lines if "==" in line))


def _failure(name: str, stderr: str) -> RegisterError:
    """Convert the resolver's message to an error of one line."""
    lines = [re.sub(r"^[^\w]+", "", line) for line in stderr.splitlines() if not line.startswith("warning")]
    text = " ".join(line for line in lines if line)
    if "Failed to fetch" in text or "error sending request" in text:
        return RegisterError("the package index cannot be reached; check the network and pip's settings")
    reason = text.removeprefix("No solution found when resolving dependencies:").strip()
    return Unresolvable(
        f"what {name} needs cannot be installed: {reason[:2000] or 'the resolver said nothing'}"
    )


@lru_cache(maxsize=1)
def index_settings() -> tuple[tuple[str, ...], dict[str, str]]:
    """Translate pip's settings, which uv ignores, to uv's arguments and environment variables.

    uv's own `UV_…` variables take precedence, since they were set for uv.
    """
    settings = _pip_settings()
    arguments = ["--index-strategy", "unsafe-best-match"]  # as pip does: the best version of all indexes
    if not {"UV_DEFAULT_INDEX", "UV_INDEX_URL"} & os.environ.keys():
        arguments += [
            part for url in settings.get("index-url", "").split() for part in ("--default-index", url)
        ]
    if not {"UV_INDEX", "UV_EXTRA_INDEX_URL"} & os.environ.keys():
        arguments += [
            part for url in settings.get("extra-index-url", "").split() for part in ("--index", url)
        ]
    arguments += [part for url in settings.get("find-links", "").split() for part in ("--find-links", url)]
    arguments += [
        part for host in settings.get("trusted-host", "").split() for part in ("--allow-insecure-host", host)
    ]
    arguments += ["--no-index"] if settings.get("no-index", "").lower() in ("1", "true", "yes") else []
    environment = {}
    if settings.get("cert") and "SSL_CERT_FILE" not in os.environ:
        environment["SSL_CERT_FILE"] = settings["cert"]
    if settings.get("proxy") and "ALL_PROXY" not in os.environ:
        environment["ALL_PROXY"] = settings["proxy"]
    return tuple(arguments), environment


def _pip_settings() -> dict[str, str]:
    """Return the settings of `pip config list`. Increasing precedence: global, install, environment."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        return {}
    found = list(_setting_lines(done.stdout))
    order = ("global", "install", ":env:")
    return {key: value for kind in order for section, key, value in found if section == kind}


def _setting_lines(text: str) -> Iterator[tuple[str, str, str]]:
    for line in text.splitlines():
        place, _, value = line.partition("=")
        section, _, key = place.rpartition(".")
        with suppress(ValueError, SyntaxError):
            yield section, key, str(literal(value))
