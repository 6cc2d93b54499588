"""A content-addressed store of trees: a zip archive that holds each distinct file once.

    trees/<digest>   one tree: a JSON list of [path, SHA-256 of the content, executable]
    blobs/<sha256>   one file's content

Equal trees give equal bytes. Every blob is checked against its name when it is read.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from weakref import WeakValueDictionary

from .trees import Tree, TreeFile, digest

_EPOCH = (1980, 1, 1, 0, 0, 0)
_known: WeakValueDictionary[tuple[str, bool], TreeFile] = WeakValueDictionary()
"""Files in use, so that trees which share a file share its memory."""


class StoreDamaged(ValueError):
    """A stored tree that is missing or does not match its digest. Takes one sentence."""


@dataclass(frozen=True)
class TreeStore:
    """The trees of one archive, read on demand."""

    path: Path

    def tree(self, wanted: str) -> Tree:
        """Return a copy of a tree by digest. Raises StoreDamaged."""
        return dict(_read(self.path, wanted))

    def digests(self) -> tuple[str, ...]:
        """List the digests of all trees. Raises StoreDamaged."""
        with _opened(self.path) as archive:
            names = archive.namelist()
        return tuple(name.removeprefix("trees/") for name in names if name.startswith("trees/"))


def pack_trees(trees: Iterable[Mapping[str, TreeFile]]) -> bytes:
    """Return an archive of trees; independent of their order and of repetitions."""
    listings: dict[str, list[list[object]]] = {}
    blobs: dict[str, bytes] = {}
    for tree in trees:
        rows = [[path, tree[path].sha256, tree[path].executable] for path in sorted(tree)]
        listings[digest(tree)] = rows
        blobs.update((entry.sha256, entry.data) for entry in tree.values())
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, rows in sorted(listings.items()):
            _add(archive, f"trees/{name}", json.dumps(rows, ensure_ascii=False).encode())
        for name, data in sorted(blobs.items()):
            _add(archive, f"blobs/{name}", data)
    return buffer.getvalue()


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(info, data)


@lru_cache(maxsize=64)
def _read(path: Path, wanted: str) -> Tree:
    with _opened(path) as archive:
        try:
            rows = json.loads(archive.read(f"trees/{wanted}"))
            return {name: _file(archive, sha256, executable) for name, sha256, executable in rows}
        except KeyError as error:
            raise StoreDamaged(f"{path} does not hold all of tree {wanted}") from error
        except (ValueError, zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise StoreDamaged(f"{path} is damaged: {error}") from error


def _file(archive: zipfile.ZipFile, sha256: str, executable: bool) -> TreeFile:
    found = _known.get((sha256, executable))
    if found is None:
        data = archive.read(f"blobs/{sha256}")
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ValueError(f"blob {sha256} has other content")
        found = _known[sha256, executable] = TreeFile(data, executable)
    return found


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise StoreDamaged(f"{path} cannot be read: {error}") from error
