"""Settings that git, inject and import share; the settings of a single command are its own arguments."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sandboxes.backend import Backend
from sandboxes.progress import Progress, silent

from .errors import RegisterError, check_place
from .heldout import HELDOUT


@dataclass(frozen=True, kw_only=True)
class ProofSettings:
    """How tasks are proven."""

    backend: Backend
    runs: int = 3
    """How often the tests run on a tree."""
    workers: int | None = None
    """Sandboxes at once; None: as many as fit on this machine."""
    progress: Progress = silent


@dataclass(frozen=True, kw_only=True)
class RegisterSettings(ProofSettings):
    """How a task set is made."""

    out: Path
    """Folder of the new set; it must not exist."""
    limit: int | None = None
    """Tasks to make at most; None: no bound."""
    heldout: float = HELDOUT
    """Share of tasks that training never sees."""

    def check(self) -> None:
        """Refuse what would fail at the end. One run cannot show a flaky test. Raises RegisterError."""
        check_place(self.out)
        if self.runs < 2 or (self.limit is not None and self.limit < 1):
            raise RegisterError("at least one task (--limit) and two runs of the tests are needed")
