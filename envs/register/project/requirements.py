"""Resolve a project's requirements to exact pins for its image.

uv resolves without installing; only wheels count, so that nothing is built. The library itself must not be
installed as a dependency of another package: the copy would contain the solution.

For a past commit, versions are those available at its date, by upload time on the index. Where nothing
resolves, the rules are relaxed step by step, and every step is noted.
"""

from __future__ import annotations

import ast
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

from ..errors import RegisterError
from .declared import canonical, name_of

PYTEST = "pytest==9.2.0"
"""The test framework of every library that is registered as it is today."""
PYTEST_OF_ITS_TIME = "pytest>=6.2"
"""The oldest that `envs.testing.programs.pytest_program` can drive, and whatever was there at the time."""
RESOLVE_S = 180.0
_ROUNDS = 3
"""How often single packages are widened before everything is."""
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
"""What pytest consists of; it may be newer than the commit where the Python of the image is."""


@dataclass(frozen=True)
class Wanted:
    """What is to be resolved, and under which rules."""

    name: str
    requirements: tuple[str, ...]
    python: str = "3.11.2"
    before: str = ""
    """ISO 8601; what was uploaded later does not exist. Empty: no limit."""
    later: Mapping[str, str] = field(default_factory=dict)
    """Packages with a time of their own; an empty time is no limit."""
    excluded: tuple[str, ...] = ()
    """Packages that are not installed, even where others ask for them."""


@dataclass(frozen=True)
class Resolution:
    """Exact pins, a complete closure."""

    pins: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """What was widened to get there."""


class Unresolvable(RegisterError):
    """No set of versions fits. Takes one sentence."""


def resolve(name: str, requirements: Sequence[str], *, timeout_s: float = RESOLVE_S) -> tuple[str, ...]:
    """Pin everything `requirements` and pytest need today, as `name==version`, sorted.

    Raises RegisterError when it cannot be resolved, or when the library is needed to test itself.
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
    """Pin everything `requirements` and pytest need, with versions of a time (ISO 8601).

    `dates` are tried in order. Then single packages that a failure names and that cannot be resolved by
    themselves get, in turn, the time from which on this Python is `supported`, no limit, no version bound,
    and are left out at last. Then everything gets the supported time, then none. Raises RegisterError with
    the last reason.
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
    """The requirements that a failure speaks of; all where it names none."""
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
    """Give every suspected requirement that cannot be had by itself the first rule under which it can."""
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
    """Resolve so that the library under test is not installed. Raises RegisterError where it must be."""
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
    ) as folder:  # no settings of anybody's project
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
    """The resolver's message as an error of one line."""
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
    """pip's settings for the resolver, which does not read them: arguments and environment variables.

    Settings meant for the resolver itself (its `UV_…` variables) take precedence, since they are more exact.
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
    """What `pip config list` prints, where later kinds win: global, then install, then the environment."""
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
            yield section, key, str(ast.literal_eval(value))
