"""A blank sandbox that belongs to a pool: how long it has waited, and whether it may still be handed out."""

from __future__ import annotations

import time
from dataclasses import dataclass

from .base import Sandbox, SandboxError, SandboxSpec

USED_SHARE = 0.1
"""How much of its lifetime a sandbox may have waited away when it is handed out."""
UNCHECKED_S = 1.0
"""After waiting longer than this it is asked for a sign of life before it is handed out."""
CHECK_S = 1.0
"""How long that sign may take."""


@dataclass(eq=False)
class Kept:
    """See the module. Times are of the pool's clock, in seconds."""

    sandbox: Sandbox
    renewed: float
    """When its lifetime began, with its start or when it was last recycled."""
    since: float = 0.0
    """When it began to wait."""

    @property
    def spec(self) -> SandboxSpec:
        return self.sandbox.spec

    @property
    def good_until(self) -> float:
        return self.renewed + USED_SHARE * self.spec.lifetime_s

    def is_sound(self, now: float, deadline: float) -> bool:
        """Whether it is alive, as far as that has to be asked; not asked beyond `deadline` (real time)."""
        if now - self.since <= UNCHECKED_S:
            return True
        try:
            self.sandbox.ping(timeout_s=max(0.0, min(CHECK_S, deadline - time.monotonic())))
        except SandboxError:
            return False
        return True
