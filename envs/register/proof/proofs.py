"""A change to be proven (`Draft`), the outcome of proving it (`Proof`), and proofs on disk (`Journal`).

The journal lets an interrupted registration continue. The file has one JSON object per line, `{"key": …,
"proof": {…}}`, and is only appended to. A line that is not whole, because the machine stopped, is skipped. Of
several lines with the same key, the last line counts.
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
"""Result for tests whose syntax the environment's Python does not know."""
RULES = 2
"""Version of the rules of a proof; other rules need a new version, so that old proofs are not reused."""


@dataclass(frozen=True)
class Draft:
    """A change that may become a task. Its hidden tests are only in `solved`, among the protected files."""

    id: str
    environment: str
    """Name of the environment in which the tests run."""
    base: Tree
    """The tree that a policy would start from."""
    solved: Tree
    """The tree after the change; its protected files are the trusted ones."""
    reference_patch: str
    """Unified diff from `base`, with the code part of the change."""
    test_files: tuple[str, ...]
    """Test files that the change touched."""
    origin: str
    """The commit or the row that the draft was made from."""
    named: tuple[str, ...] = ()
    """Test files, out of `test_files`, that hold tests even if their names do not say so."""
    workdir: str = SandboxSpec.workdir
    """Folder of the tree in the sandbox; an image may expect a certain folder."""


@dataclass(frozen=True)
class Proof:
    """The result of proving a draft."""

    id: str
    result: str
    """`valid`, or why the draft makes no task, in a few words that can be counted."""
    fail_to_pass: tuple[str, ...] = ()
    pass_to_pass: tuple[str, ...] = ()
    flaky: tuple[str, ...] = ()
    """Ids whose outcome varied between runs of the same tree; not in `fail_to_pass` or `pass_to_pass`."""
    failures: Mapping[str, Failure] = field(default_factory=dict)
    """Failures before the fix by test id, and by path for a file that could not be collected."""
    test_files: tuple[str, ...] = ()
    """Files to run for a verdict."""
    test_s: float = 0.0
    """Duration of the longest run of `test_files` after the fix."""
    evidence: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def valid(self) -> bool:
        return self.result == VALID


def proof_key(draft: Draft, environment: Runtime, runs: int) -> str:
    """Return the SHA-256 over everything that decides a proof."""
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
    """Proofs by `proof_key`, kept in a file. Methods may be called from several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reused = 0
        """Number of calls of `find` that returned a proof."""
        self._lock = threading.Lock()
        self._proofs = dict(_read(path)) if path.is_file() else {}

    @classmethod
    def of(cls, name: str) -> Journal:
        """Return the journal of a source in the cache folder."""
        return cls(cache_folder() / "validation" / f"{name}.jsonl")

    def __len__(self) -> int:
        return len(self._proofs)

    def find(self, key: str, draft_id: str) -> Proof | None:
        """Return the proof for a key, or None.

        The proof gets the id `draft_id`, because a draft may have had another id when the proof was made.
        """
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
    for line in path.read_bytes().split(b"\n"):
        try:
            fields = json.loads(line)
            yield str(fields["key"]), _PROOF.validate_python(fields["proof"])
        except (ValueError, KeyError, TypeError, ValidationError):
            continue
