"""The small policy that comes with the package: taught on practice repositories, not yet reinforced.

`scripts/teach-practice.py` makes it from nothing. Its weights are stored in bfloat16, and computed with in
whatever type the settings ask for.
"""

from __future__ import annotations

from pathlib import Path

SHIPPED = {"practice": Path(__file__).parent / "policies" / "practice"}
"""Names that `policy.model` takes, and their model folders."""
