"""A change to be proven (`Draft`), the outcome of proving it (`Proof`), and proofs on disk (`Journal`).

The journal lets an interrupted registration go on where it stopped. It has one JSON object a line and is only
ever appended to: `{"key": …, "proof": {…}}`. A line that was torn when the machine stopped is not read. A
later line for the same key counts.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from envs.tasksets.taskset import Runtime
from envs.tasksets.trees import Tree, digest
from envs.testing.run import Failure
from sandboxes.base import SandboxSpec
from sandboxes.images.build import cache_folder

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
    """The result of proving a draft."""

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


_PROOF = TypeAdapter(Proof)


class Journal:
    """Proofs by the digest of what decided them (`proof_key`). Methods may be called from several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reused = 0
        """How many proofs were there already when they were asked for."""
        self._lock = threading.Lock()
        self._proofs = dict(_read(path)) if path.is_file() else {}

    @classmethod
    def of(cls, name: str) -> Journal:
        """Return the journal of a source in the cache folder."""
        return cls(cache_folder() / "validation" / f"{name}.jsonl")

    def __len__(self) -> int:
        return len(self._proofs)

    def find(self, key: str, draft_id: str) -> Proof | None:
        """Return a proof that was made before, for a draft that may have another id now."""
        with self._lock:
            proof = self._proofs.get(key)
            self.reused += proof is not None
        return replace(proof, id=draft_id) if proof else None

    def add(self, key: str, proof: Proof) -> None:
        """Append a proof. Raises OSError."""
        line = json.dumps({"key": key, "proof": asdict(proof)}, ensure_ascii=False).encode() + b"\n"
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as file:
                if file.tell():
                    file.seek(-1, 2)
                    line = line if file.read(1) == b"\n" else b"\n" + line  # after a torn line
                file.write(line)
            self._proofs[key] = proof


def _read(path: Path):
    for line in path.read_bytes().splitlines():
        try:
            fields = json.loads(line)
            yield str(fields["key"]), _PROOF.validate_python(fields["proof"])
        except (ValueError, KeyError, TypeError, ValidationError):
            continue
