"""The ingredients of an image, as data."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

FORMAT = 1
"""Raised when the builders lay the same recipe differently, so that old images are not mistaken for new."""
ENVIRONMENT_FORMAT = 2
"""Version of the layout of `/opt/env`; a new one rebuilds environments, not bases."""


@dataclass(frozen=True)
class ImageRecipe:
    """A Debian base with Python, and pinned Python packages at `/opt/env`, which is on `PYTHONPATH`."""

    name: str
    requirements: tuple[str, ...] = ()
    """Exact pins, `name==version`; a complete closure, since nothing else is installed."""
    packages: tuple[str, ...] = ()
    """Debian packages beside python3, git and ripgrep."""
    python: str = "3.11"
    """Major and minor version; must be what `base` has."""
    base: str = "bookworm"
    """A Debian release to be bootstrapped; with a `/` or `:`, an image the Docker engine has or can pull."""
    provides: tuple[str, ...] = ()
    """Of these, `name==version`, only the metadata is laid: a project whose own tree is used, and which asks
    for its version when it is imported."""

    @property
    def ref(self) -> str:
        """Name and digest; equal for equal recipes on every machine."""
        return f"daythree/{self.name}:{digest({**asdict(self), 'environment_format': ENVIRONMENT_FORMAT})}"

    @property
    def base_digest(self) -> str:
        return digest({"packages": sorted(self.packages), "python": self.python, "base": self.base})

    @property
    def environment_digest(self) -> str:
        return digest(
            {
                "environment_format": ENVIRONMENT_FORMAT,
                "requirements": sorted(self.requirements),
                "python": self.python,
                "provides": sorted(self.provides),
            }
        )

    @property
    def bootstrapped(self) -> bool:
        """Whether the base is made by debootstrap here, and not taken from a named image."""
        return not set("/:") & set(self.base)


def digest(content: dict[str, object]) -> str:
    """12 hex digits of a hash over the ingredients."""
    text = json.dumps({"format": FORMAT, **content}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
