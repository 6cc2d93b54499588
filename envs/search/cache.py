"""Caches of file outlines and passage vectors: in memory with least-recently-used eviction, and on disk.

The key is a digest of a file's path and content, so trees of one library that differ by a file share all
other entries. Entries on disk may be deleted at any time; a damaged entry counts as absent.
"""

from __future__ import annotations

import hashlib
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from operator import itemgetter
from pathlib import Path
from typing import Generic, TypeVar

from cachetools import LRUCache

from sandboxes.files import write_whole

T = TypeVar("T")

FORMAT = 1
"""Incremented whenever the stored form, or the splitting of text into terms, changes."""


def file_key(path: str, sha256: str) -> str:
    """Return the key of a file with this content at this path."""
    return hashlib.sha256(f"{FORMAT}\0{path}\0{sha256}".encode("utf-8", "surrogateescape")).hexdigest()


class MemoryCache(Generic[T]):
    """The most recently used values, up to a total weight. Thread-safe, unlike the `LRUCache` inside."""

    def __init__(self, limit: int) -> None:
        self._limit, self._lock = limit, threading.Lock()
        self._values: LRUCache[str, tuple[T, int]] = LRUCache(limit, getsizeof=itemgetter(1))

    def get(self, key: str) -> T | None:
        with self._lock:
            value, _ = self._values.get(key, (None, 0))
        return value

    def put(self, key: str, value: T, weight: int) -> None:
        """Store a value; the newest value stays even if larger than the limit."""
        with self._lock:
            self._values[key] = value, min(weight, self._limit)


class DiskCache:
    """A cache of bytes by key, in one file per key with a checksum. Files are written atomically; an
    unwritable folder is no error.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, key: str) -> bytes | None:
        """Return the bytes of a key; None when they are absent or damaged."""
        try:
            stored = self._path(key).read_bytes()
            data = zlib.decompress(stored[32:])
        except (OSError, zlib.error):
            return None
        return data if hashlib.sha256(data).digest() == stored[:32] else None

    def write(self, key: str, data: bytes) -> None:
        stored = hashlib.sha256(data).digest() + zlib.compress(data, 1)
        with suppress(OSError):  # a cache that cannot be written costs time, and nothing else
            write_whole(self._path(key), stored, durable=False)

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / key[2:]


class TieredCache(Generic[T]):
    """A `MemoryCache` in front of a `DiskCache`."""

    def __init__(
        self, disk: DiskCache, *, limit: int, encode: Callable[[T], bytes], decode: Callable[[bytes], T]
    ) -> None:
        """`limit` bounds the total weight in memory. `decode` must raise ValueError for damaged bytes."""
        self._memory: MemoryCache[T] = MemoryCache(limit)
        self._disk, self._encode, self._decode = disk, encode, decode

    def get(self, key: str, weight: int | None = None, *, on_disk: bool = True) -> T | None:
        """Return a value from memory, else from disk; its default weight is its size on disk."""
        value = self._memory.get(key)
        data = self._disk.read(key) if value is None and on_disk else None
        if data is not None:
            try:
                value = self._decode(data)
            except ValueError:
                return None
            self._memory.put(key, value, len(data) if weight is None else weight)
        return value

    def put(self, key: str, value: T, weight: int, *, on_disk: bool = True) -> None:
        self._memory.put(key, value, weight)
        if on_disk:
            self._disk.write(key, self._encode(value))
