"""Embedders for search by meaning: a model folder loaded with transformers, or an HTTP endpoint."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from envs.search.embedder import Embedder, EmbedderError, EndpointEmbedder

TOKENS = 512
"""Longer texts are cut; most sentence-embedding models were trained on no more."""
BATCH = 16


class ModelEmbedder:
    """An `envs.search.embedder.Embedder`: a text is the mean of the last layer over its tokens."""

    def __init__(self, folder: Path, *, device: str = "cpu") -> None:
        """Load model and tokenizer from a folder; nothing is downloaded. Raises EmbedderError."""
        import torch
        from transformers import AutoModel, AutoTokenizer

        self.name = f"model:{folder.resolve()}"
        self._device = device
        self._lock = threading.Lock()
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self._model: Any = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
        except (OSError, ValueError) as error:
            raise EmbedderError(f"{folder} holds no model to embed with: {error}") from error
        self._model.to(device).eval()

    def embed(self, texts: Sequence[str], *, timeout_s: float) -> list[list[float]]:
        """Return one vector per text. Raises EmbedderError at the deadline, between batches."""
        until = time.monotonic() + timeout_s
        vectors: list[list[float]] = []
        for start in range(0, len(texts), BATCH):
            left_s = until - time.monotonic()
            if left_s <= 0 or not self._lock.acquire(timeout=left_s):
                raise EmbedderError(f"{self.name} was too slow")
            try:
                vectors += self._means(texts[start : start + BATCH])
            finally:
                self._lock.release()
        return vectors

    def _means(self, texts: Sequence[str]) -> list[list[float]]:
        import torch

        rows = [
            self._tokenizer(text, truncation=True, max_length=TOKENS)["input_ids"] or [0] for text in texts
        ]
        longest = max(len(row) for row in rows)
        ids_BT = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=self._device)
        mask_BT = torch.tensor(
            [[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=self._device
        )
        with torch.inference_mode():
            hidden_BTD = self._model(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state
        weight_BT1 = mask_BT.unsqueeze(-1).to(hidden_BTD.dtype)
        return ((hidden_BTD * weight_BT1).sum(1) / weight_BT1.sum(1)).tolist()


@contextmanager
def open_embedder(spec: str) -> Iterator[Embedder | None]:
    """Open the embedder of a spec: `model:FOLDER` or `endpoint:URL#MODEL`; an empty spec gives None.

    Raises EmbedderError for any other spec, and for a folder without a model.
    """
    kind, _, rest = spec.partition(":")
    if not spec:
        yield None
    elif kind == "model" and rest:
        yield ModelEmbedder(Path(rest))
    elif kind == "endpoint" and "#" in rest:
        url, _, model = rest.rpartition("#")
        with closing(EndpointEmbedder(url, model)) as embedder:
            yield embedder
    else:
        raise EmbedderError(f"unknown embedder {spec!r}; use model:FOLDER or endpoint:URL#MODEL")
