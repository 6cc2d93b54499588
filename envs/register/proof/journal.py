"""Finished proofs on disk, so that an interrupted registration goes on where it stopped.

One JSON object a line, only ever appended: `{"key": …, "proof": {…}}`. A line that was torn when the machine
stopped is not read. A later line for the same key counts.
"""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from sandboxes.images.build import cache_folder

from .drafts import Proof

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
