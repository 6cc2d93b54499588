"""The `Embedder` protocol, text to vectors, and an OpenAI-compatible endpoint that implements it.

A sentence-embedding model in this process needs torch, which only the trainer may import: `trainer.embedder`
has one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import httpx2
from pydantic import TypeAdapter, ValidationError

KEY_VARIABLES = ("DAYTHREE_API_KEY", "OPENAI_API_KEY")


class EmbedderError(Exception):
    """The embedder did not answer, or answered without vectors. Takes one sentence."""


class Embedder(Protocol):
    """Turns texts into vectors of one length. May be called from several threads at once."""

    @property
    def name(self) -> str:
        """The model's name; vectors of different models are never compared."""
        ...

    def embed(self, texts: Sequence[str], *, timeout_s: float) -> list[list[float]]:
        """Return one vector per text, in order. Raises EmbedderError."""
        ...


@dataclass(frozen=True)
class _Row:
    index: int
    embedding: list[float]


@dataclass(frozen=True)
class _Reply:
    data: list[_Row]


_REPLY = TypeAdapter(_Reply)


class EndpointEmbedder:
    """An embedder behind `URL/embeddings`, as OpenAI's API defines it. The key comes from the environment."""

    def __init__(self, url: str, model: str, *, batch: int = 64) -> None:
        """`url` lacks the final `/embeddings`; `batch` is the most texts per request."""
        self._url = url.rstrip("/") + "/embeddings"
        self._model, self._batch = model, batch
        key = next((os.environ[name] for name in KEY_VARIABLES if os.environ.get(name)), "")
        self._client = httpx2.Client(headers={"Authorization": f"Bearer {key}"} if key else {})

    @property
    def name(self) -> str:
        return f"{self._url}#{self._model}"

    def embed(self, texts: Sequence[str], *, timeout_s: float) -> list[list[float]]:
        """Return one vector per text; batches share the deadline. Raises EmbedderError."""
        until = time.monotonic() + timeout_s
        vectors: list[list[float]] = []
        for start in range(0, len(texts), self._batch):
            vectors += self._ask(texts[start : start + self._batch], until - time.monotonic())
        if len({len(vector) for vector in vectors}) > 1:
            raise EmbedderError(f"{self._url} answered with vectors of different lengths")
        return vectors

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _ask(self, texts: Sequence[str], left_s: float) -> list[list[float]]:
        if left_s <= 0:
            raise EmbedderError(f"{self._url} was too slow")
        body = {"model": self._model, "input": list(texts), "encoding_format": "float"}
        try:
            reply = self._client.post(self._url, json=body, timeout=left_s)
        except httpx2.HTTPError as error:
            raise EmbedderError(f"{self._url} did not answer: {type(error).__name__}: {error}") from error
        if reply.status_code != 200:
            raise EmbedderError(f"{self._url} answered {reply.status_code}: {reply.text[:200]}")
        try:
            rows = sorted(_REPLY.validate_json(reply.content).data, key=lambda row: row.index)
        except ValidationError as error:
            raise EmbedderError(f"{self._url} did not answer with embeddings") from error
        if [row.index for row in rows] != list(range(len(texts))):
            raise EmbedderError(f"{self._url} answered {len(rows)} vectors for {len(texts)} texts")
        return [row.embedding for row in rows]
