"""Errors of registration, and the checks and names that all of its rooms use."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandboxes.base import SandboxError

from ..tasksets.taskset import TaskSetError
from ..tasksets.trees import PatchError

IMAGE_S = 1800.0
"""Deadline for building one image; the base comes first where it is missing."""


class RegisterError(Exception):
    """The source cannot become tasks. Takes one sentence that says why and what to do."""


class RegisterOutage(RegisterError):
    """The request was fine; the sandboxes failed on the way."""


@contextmanager
def one_line() -> Iterator[None]:
    """Turn every expected failure inside into a RegisterError."""
    try:
        yield
    except SandboxError as error:
        raise RegisterOutage(f"the sandboxes failed ({error}); nothing was written, run it again") from error
    except (TaskSetError, PatchError) as error:
        raise RegisterError(str(error)) from error
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise RegisterError(f"{error.strerror or error}{where}; nothing was written") from error


def check_place(out: Path) -> None:
    """Refuse at once a folder that could not be written at the end. Raises RegisterError."""
    if out.exists():
        raise RegisterError(f"{out} exists already; choose another --out or remove it")
    above = next(folder for folder in out.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise RegisterError(f"{out} cannot be written: no permission in {above}; choose another --out")


def plain_name(text: str, otherwise: str = "") -> str:
    """Return lower-case letters, digits and single hyphens; `otherwise` when nothing of the text is left."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or otherwise
