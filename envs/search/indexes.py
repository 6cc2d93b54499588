"""Search indexes, one per state of a tree, shared by all episodes of this process within a memory bound."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial

import numpy as np

from sandboxes.base import TreeChanges
from sandboxes.images.build import cache_folder

from ..tasksets.trees import TreeFile
from . import outlines
from .cache import DiskCache, MemoryCache, TieredCache, file_key
from .embedder import Embedder, EmbedderError
from .index import Place, TreeIndex, make_index, nearest
from .outlines import Outline, is_searched, outline

MEMORY_BYTES = 256 << 20
"""Most bytes of source whose outlines stay in memory; outlines take a small multiple of the source."""
PLACES = 200_000
"""Most passages in memory, over all tree indexes."""
DEAR_BYTES = 4 << 10
"""Smallest file whose outline is also cached on disk: smaller files are parsed as quickly."""
EMBEDDED_CHARS = 2_000
"""Most characters of a passage that an embedder gets."""
EMBED_BATCH = 256


class Indexes:
    """Makes and caches tree indexes. Thread-safe; two threads that miss the same index may both make it."""

    def __init__(self, disk: DiskCache) -> None:
        self._outlines: TieredCache[Outline] = TieredCache(
            disk, limit=MEMORY_BYTES, encode=outlines.encode, decode=outlines.decode
        )
        self._vectors: TieredCache[np.ndarray] = TieredCache(
            disk, limit=MEMORY_BYTES, encode=lambda vector: vector.astype("<f4").tobytes(), decode=_vector
        )
        self._trees: MemoryCache[TreeIndex] = MemoryCache(PLACES)

    def of(self, tree: Mapping[str, TreeFile], digest: str, *, timeout_s: float) -> TreeIndex:
        """Return the index of a base tree by its digest.

        Raises TimeoutError; outlines made until then are cached, so that a repeated call gets further.
        """
        index = self._trees.get(digest)
        if index is None:
            digests = {path: file.sha256 for path, file in tree.items()}
            files = {path: file.data for path, file in tree.items() if is_searched(path, file.data)}
            until = time.monotonic() + timeout_s
            index = make_index(digests, files, partial(self._outline, until))
            self._trees.put(digest, index, len(index.places))
        return index

    def changed(self, base: TreeIndex, changes: TreeChanges, *, timeout_s: float) -> TreeIndex:
        """Return the index of a base tree with changes; only changed files are read. Raises TimeoutError."""
        if not (changes.written or changes.removed or changes.skipped):
            return base
        gone = {*changes.removed, *changes.written, *changes.skipped}
        hidden = tuple(name for name in changes.skipped if name.endswith("/"))
        left = {path for path in base.digests if path not in gone and not path.startswith(hidden or "\0")}
        written = {path: data for path, data in changes.written.items() if is_searched(path, data)}
        digests = {path: base.digests[path] for path in left}
        digests |= {path: hashlib.sha256(data).hexdigest() for path, data in written.items()}
        files = {path: data for path, data in base.files.items() if path in left} | written
        key = hashlib.sha256(repr(sorted(digests.items())).encode()).hexdigest()
        index = self._trees.get(key)
        if index is None:
            index = make_index(digests, files, partial(self._outline, time.monotonic() + timeout_s))
            self._trees.put(key, index, len(index.places))
        return index

    def nearest(
        self, index: TreeIndex, places: Sequence[int], query: str, embedder: Embedder, *, timeout_s: float
    ) -> list[int]:
        """Rank places by embeddings, best first. Cached vectors are not requested again.

        Raises EmbedderError, also at the deadline; vectors that arrived until then are kept.
        """
        until = time.monotonic() + timeout_s
        chosen = [index.places[number] for number in places]
        keys = [_vector_key(index, place, embedder) for place in chosen]
        rows = {key: self._vectors.get(key) for key in keys}
        missing = [number for number, key in enumerate(keys) if rows[key] is None]
        for start in range(0, len(missing), EMBED_BATCH):
            batch = missing[start : start + EMBED_BATCH]
            texts = [index.text(chosen[number], EMBEDDED_CHARS) for number in batch]
            vectors = embedder.embed(texts, timeout_s=until - time.monotonic())
            for number, vector in zip(batch, vectors, strict=True):
                row = rows[keys[number]] = np.asarray(vector, np.float32)
                self._vectors.put(keys[number], row, row.nbytes)
        question = np.asarray(embedder.embed([query], timeout_s=until - time.monotonic())[0], np.float32)
        matrix = [rows[key] for key in keys]
        if any(row is None or row.shape != question.shape for row in matrix):
            raise EmbedderError(f"{embedder.name} answers with vectors of changing length")
        ranked = nearest(np.stack([row for row in matrix if row is not None]), question)
        return [places[number] for number in ranked]

    def _outline(self, until: float, path: str, sha256: str, data: bytes) -> Outline:
        key, dear = file_key(path, sha256), len(data) >= DEAR_BYTES
        known = self._outlines.get(key, len(data), on_disk=dear)
        if known is None:
            if time.monotonic() > until:
                raise TimeoutError("the index is not ready yet")
            known = outline(path, data)
            self._outlines.put(key, known, len(data), on_disk=dear)
        return known


@lru_cache(maxsize=1)
def shared_indexes() -> Indexes:
    """Return the indexes of this process, with their folder in the cache."""
    return Indexes(DiskCache(cache_folder() / "search"))


def _vector_key(index: TreeIndex, place: Place, embedder: Embedder) -> str:
    text = f"{embedder.name}\0{index.digests[place.path]}\0{place.passage.start}\0{place.passage.name}"
    return file_key(place.path, text)


def _vector(data: bytes) -> np.ndarray:
    return np.frombuffer(data, "<f4")
