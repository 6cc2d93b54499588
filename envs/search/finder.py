"""Answer a policy's searches in its repository's present state, as text.

The base tree's index is shared. At every search the sandbox is asked for edited, new and removed files, and
the index is updated with them, so an answer never points at a line that is gone.
"""

from __future__ import annotations

import difflib
import logging
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch

from sandboxes.base import Sandbox

from ..tasksets.trees import TreeFile
from .embedder import Embedder, EmbedderError
from .index import Place, TreeIndex, fused
from .indexes import Indexes
from .outlines import FILE_LIMIT
from .words import terms

log = logging.getLogger(__name__)

INDEX_S = 60.0
"""Deadline of making an index, and of embedding passages, within one question."""
PASSAGES_SHOWN = 10
FUSED_FROM = 200
"""How far down the two rankings are joined."""
LINE_CHARS = 200


class NothingThereError(LookupError):
    """A path or glob that no file matches. Takes one sentence."""


@dataclass(frozen=True)
class Finder:
    """A search in one state of a tree. `limit` is the most results that an answer shows."""

    index: TreeIndex
    indexes: Indexes
    paths: frozenset[str]
    """The paths of the files to search."""
    limit: int
    partial: bool = False
    """Whether the sandbox has more changed files than a search covers."""

    def definition(self, query: str) -> str:
        """Describe where a name is defined; in files without a grammar, the lines that hold the word."""
        found = [
            (path, definition) for path, definition in self.index.definitions(query) if path in self.paths
        ]
        rows = [
            f"{path}:{_range(definition.start, definition.end)}: {definition.kind} {definition.qualified}\n"
            f"    {definition.line}\t{self._line(path, definition.line)}"
            for path, definition in found
        ]
        if rows:
            return self._shown(rows)
        name = query.rpartition(".")[2]
        near = difflib.get_close_matches(name, sorted(self.index.names()), n=5, cutoff=0.7)
        hint = f"no definition of {query} is known"
        hint += f"; there is {', '.join(near)}" if near else ""
        words = self._words(name)
        return self._shown([hint, *words])

    def uses(self, query: str) -> str:
        """List the lines that use a name, each with the enclosing function."""
        name = query.rpartition(".")[2]
        places = [place for place in self.index.uses(name) if place[0] in self.paths]
        rows = [self._use(path, line) for path, line in places[: self.limit]] or [
            f"no use of {name} is known"
        ]
        if len(places) < self.limit:
            rows += self._words(name)
        return self._shown(rows, more=len(places) - self.limit)

    def _use(self, path: str, line: int) -> str:
        around = self.index.enclosing(path, line)
        return f"{path}:{line}: {self._line(path, line)}" + (f"  [in {around}]" if around else "")

    def meaning(self, query: str, embedder: Embedder | None) -> str:
        """Show the best passages for a question, ranked by BM25, and by embeddings with an embedder."""
        places = self.index.places
        ranked = [number for number in self.index.rank(query) if places[number].path in self.paths]
        note = []
        if embedder is not None:
            chosen = [number for number, place in enumerate(places) if place.path in self.paths]
            try:
                close = self.indexes.nearest(self.index, chosen, query, embedder, timeout_s=INDEX_S)
                ranked = fused([ranked[:FUSED_FROM], close[:FUSED_FROM]])
            except EmbedderError as error:
                log.warning("ranked by words alone: %s", error)
                note = ["(ranked by words alone)"]
        rows = [self._passage(places[number], query) for number in ranked[:PASSAGES_SHOWN]]
        return self._shown([*note, *rows] if rows else ["nothing shares a word with this; use other words"])

    def _passage(self, place: Place, query: str) -> str:
        """Return a passage's place, its heading line, and up to two lines that hold most of the query."""
        passage, lines = place.passage, self.index.lines(place.path)
        asked = dict.fromkeys(terms(query))
        weighed = [
            (sum(self.index.weight(term) for term in asked if term in terms(lines[number - 1])), number)
            for number in passage.lines()
            if number != passage.line
        ]
        best = sorted(
            number for score, number in sorted(weighed, key=lambda row: (-row[0], row[1]))[:2] if score
        )
        head = f"{place.path}:{_range(passage.start, passage.end)}: {passage.kind} {passage.name}"
        shown = [passage.line, *best] if passage.kind != "module" else best
        return "\n".join([head.rstrip(), *(f"    {number}\t{_cut(lines[number - 1])}" for number in shown)])

    def _words(self, name: str) -> list[str]:
        rows = [
            f"{path}:{line}: {self._line(path, line)}"
            for path, line in self.index.words(name, sorted(self.paths))
        ]
        return ["(the word in files whose syntax is not read:)", *rows] if rows else []

    def _line(self, path: str, line: int) -> str:
        return _cut(self.index.lines(path)[line - 1])

    def _shown(self, rows: Sequence[str], more: int = 0) -> str:
        shown = list(rows[: self.limit])
        more = max(more, len(rows) - self.limit)
        if more > 0:
            shown.append(f"({more} more; narrow the search by path or glob)")
        if self.partial:
            shown.append("(so many files were changed that not all of them are searched)")
        return "\n".join(shown)


def look_around(
    sandbox: Sandbox,
    base: Mapping[str, TreeFile],
    digest: str,
    indexes: Indexes,
    *,
    path: str = ".",
    glob: str | None = None,
    limit: int = 50,
    timeout_s: float,
) -> Finder:
    """Index the sandbox's present files, and select those that `path` and `glob` match.

    `timeout_s` bounds the sandbox's answer. Raises NothingThereError, SandboxError, and TimeoutError while
    an index is not ready.
    """
    known = indexes.of(base, digest, timeout_s=INDEX_S)
    changes = sandbox.changes(".", known.digests, timeout_s=timeout_s, file_limit=FILE_LIMIT)
    index = indexes.changed(known, changes, timeout_s=INDEX_S)
    root = posixpath.normpath(posixpath.join(sandbox.spec.workdir, path))
    inside = posixpath.relpath(root, sandbox.spec.workdir)
    paths = frozenset(name for name in index.outlines if _is_meant(name, inside, glob))
    if not paths:
        where = path if glob is None else f"{path} with {glob}"
        raise NothingThereError(f"there is no text file in {where}")
    return Finder(index, indexes, paths, limit, "too many" in changes.skipped.values())


def _is_meant(name: str, inside: str, glob: str | None) -> bool:
    if inside not in (".", name) and not name.startswith(inside + "/"):
        return False
    relative = name if inside == "." else name.removeprefix(inside + "/")
    return glob is None or fnmatch(relative if "/" in glob else posixpath.basename(name), glob)


def _range(start: int, end: int) -> str:
    return f"{start}" if start == end else f"{start}-{end}"


def _cut(line: str) -> str:
    return line.strip()[:LINE_CHARS]
