"""From what a project asks for to an exact list of what its image holds.

pip resolves without installing; only wheels count, so that nothing is built. The library itself must not
come back as somebody's dependency: an installed copy would give every answer away.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Sequence

from .errors import RegisterError
from .project import canonical

PYTEST = "pytest==9.2.0"
"""The test framework of every registered library."""
RESOLVE_S = 180.0
_PYTHON = "3.11"
"""The Python of the images (`sandboxes.images.ImageRecipe.python`)."""


def resolve(name: str, requirements: Sequence[str], *, timeout_s: float = RESOLVE_S) -> tuple[str, ...]:
    """Pin everything `requirements` and pytest need, as `name==version`, sorted.

    Raises RegisterError when it cannot be resolved, or when the library is needed to test itself.
    """
    machine = platform.machine()
    platforms = [f"manylinux_2_28_{machine}", f"manylinux_2_17_{machine}", f"manylinux2014_{machine}"]
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    command += ["--report", "-", "--only-binary=:all:", "--python-version", _PYTHON, "--implementation", "cp"]
    command += [f"--platform={each}" for each in [*platforms, "any"]] + ["--target", "unused"]
    try:
        done = subprocess.run(
            [*command, PYTEST, *requirements], capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise RegisterError(
            f"the package index did not resolve the requirements of {name} "
            f"within {timeout_s:.0f} s; try again"
        ) from None
    if done.returncode:
        reasons = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
        reason = reasons[-1].removeprefix("ERROR: ")[:300] if reasons else "pip said nothing"
        raise RegisterError(f"what {name} needs cannot be installed: {reason}")
    found = [entry["metadata"] for entry in json.loads(done.stdout)["install"]]
    if any(canonical(entry["name"]) == canonical(name) for entry in found):
        raise RegisterError(
            f"{name} is needed by its own tests' tools, so an installed copy would give the answers away; "
            "choose another library"
        )
    return tuple(sorted(f"{canonical(entry['name'])}=={entry['version']}" for entry in found))
