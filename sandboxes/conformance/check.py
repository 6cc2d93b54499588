"""`check_backend` runs every conformance check against a backend, as `check_env` does for an environment.

from sandboxes.conformance import check_backend
print(check_backend(MyBackend(), image="my-image"))
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..backend import Backend
from ..base import Sandbox, SandboxError
from .attacks import ATTACKS
from .commands import COMMANDS, FILES, small_spec
from .forking import FORKING, OVERLAID
from .isolation import ENDING, ISOLATION
from .limits import LIMITS
from .recycling import DOUBTED, EITHER, GONE

GROUPS: Mapping[str, tuple[Callable[..., Any], ...]] = {
    "files": FILES,
    "ending": ENDING,
    "commands": COMMANDS,
    "isolation": ISOLATION,
    "attacks": ATTACKS,
    "limits": LIMITS,
    "forking": FORKING,
    "overlaid": OVERLAID,
    "doubted recycling": (*DOUBTED, *EITHER),
    "recycling": GONE,
}


class ConformanceError(AssertionError):
    """A backend failed a check. One sentence that names the check."""


@dataclass(frozen=True)
class ConformanceReport:
    passed: tuple[str, ...]
    """Names of checks."""
    not_applied: Mapping[str, str]
    """From the name of a group of checks to the reason that none of it ran."""


def check_backend(
    backend: Backend, *, image: str, groups: Collection[str] = tuple(GROUPS), timeout_s: float = 60.0
) -> ConformanceReport:
    """Run the checks of `groups`, each in its own sandbox, which must start within `timeout_s`.

    `image` needs Python 3 and a POSIX shell, and packages of `ImageRecipe` for the checks of commands.
    Raises `ConformanceError` on the first failure. Groups that do not apply are reported with the reason:
    `recycling` where an unused sandbox cannot be recycled, `overlaid` where disks are no overlays.
    """
    passed: list[str] = []
    not_applied = {group: "it was not asked for" for group in GROUPS if group not in groups}
    for group in (group for group in GROUPS if group in groups):
        with _opened(backend, image, timeout_s) as sandbox:
            reason = _reason_against(group, sandbox, timeout_s)
        if reason:
            not_applied[group] = reason
            continue
        forks = group in ("forking", "overlaid")
        for check in GROUPS[group]:
            with _opened(backend, image, timeout_s) as sandbox:
                _run(check, (backend, sandbox) if forks else (sandbox,), backend.name)
            passed.append(check.__name__)
    return ConformanceReport(tuple(passed), not_applied)


def _reason_against(group: str, sandbox: Sandbox, timeout_s: float) -> str:
    """Return the reason why a group does not apply to this sandbox; empty where it applies."""
    if group == "overlaid" and getattr(sandbox, "disks", None) is None:
        return "its disks are no overlays"
    if group == "recycling":
        blank = sandbox.recycled(timeout_s=timeout_s)
        if blank is None:
            return "its sandboxes cannot be recycled"
        blank.close()
    return ""


def _run(check: Callable[..., Any], arguments: tuple[Any, ...], name: str) -> None:
    left = None
    try:
        left = check(*arguments)  # the checks of recycling return the sandbox that goes on
    except Exception as error:  # a defect of the backend may surface as any error
        reason = " ".join(str(error).split()) or "its assertion does not hold"
        raise ConformanceError(
            f"the backend {name!r} fails the check {check.__name__!r}: {type(error).__name__}: {reason}"
        ) from error
    finally:
        if left is not None:
            left.close()


@contextmanager
def _opened(backend: Backend, image: str, timeout_s: float) -> Iterator[Sandbox]:
    try:
        sandbox = backend.open(small_spec(image), timeout_s=timeout_s)
    except SandboxError as error:
        raise ConformanceError(
            f"the backend {backend.name!r} opens no sandbox of {image}: {error}"
        ) from error
    try:
        yield sandbox
    finally:
        sandbox.close()
