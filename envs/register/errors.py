"""What can go wrong while a package becomes tasks."""

from __future__ import annotations


class RegisterError(Exception):
    """The source cannot become tasks. Takes one sentence that says why and what to do."""


class RegisterOutage(RegisterError):
    """What was asked for is fine; the sandboxes failed on the way."""
