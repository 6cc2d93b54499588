"""A task before it is proven, and what proving it gave."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from envs.tasksets.taskset import Runtime
from envs.tasksets.trees import Tree, digest
from envs.testing.run import Failure
from sandboxes.base import SandboxSpec

VALID = "valid"
WRONG_PYTHON = "its tests are for another Python"
"""They are no syntax that the environment's Python knows: there is no environment for them here."""
RULES = 2
"""Raised when the same draft may give another proof, so that kept proofs of old rules are not believed."""


@dataclass(frozen=True)
class Draft:
    """A change that may become a task. Its hidden tests are only in `solved`, among the protected files."""

    id: str
    environment: str
    """Name of the environment that it runs in."""
    base: Tree
    """What a policy would start from."""
    solved: Tree
    """The tree after the change; its protected files are the trusted ones."""
    reference_patch: str
    """Unified diff from `base`, the code part of the change."""
    test_files: tuple[str, ...]
    """Test files that the change touched."""
    origin: str
    """The commit, or the row, that it was made from."""
    named: tuple[str, ...] = ()
    """Those of the test files that are known to hold tests, whatever they are called."""
    workdir: str = SandboxSpec.workdir
    """Where the tree is laid; an image may expect it in one place."""


@dataclass(frozen=True)
class Proof:
    """What became of a draft."""

    id: str
    result: str
    """`valid`, or why it makes no task, in a few words that can be counted."""
    fail_to_pass: tuple[str, ...] = ()
    pass_to_pass: tuple[str, ...] = ()
    flaky: tuple[str, ...] = ()
    """Ids whose outcome varied between runs of the same tree; in neither list."""
    failures: Mapping[str, Failure] = field(default_factory=dict)
    """Why tests failed before the fix, by id; by path for a file that could not be collected."""
    test_files: tuple[str, ...] = ()
    """Files to run for a verdict."""
    test_s: float = 0.0
    """The longest run of them after the fix."""
    evidence: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def valid(self) -> bool:
        return self.result == VALID


def proof_key(draft: Draft, environment: Runtime, runs: int) -> str:
    """SHA-256 over everything that decides a proof."""
    decisive = [
        RULES,
        runs,
        digest(draft.base),
        digest(draft.solved),
        draft.reference_patch,
        draft.test_files,
        environment.image.ref,
        asdict(environment.tests),
        draft.named,
        draft.workdir,
    ]
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
