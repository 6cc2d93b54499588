"""Progress reports of long work: a plain callable, so that no layer depends on a progress bar."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with (the name of the step, steps done, steps in total; 0: unknown)."""


def silent(what: str, done: int, total: int) -> None:
    """Discard the report."""
