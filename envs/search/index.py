"""The search index of one tree: file outlines, and passages ranked by BM25 and by vectors."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from .grammars import Definition
from .outlines import Outline, Passage
from .words import terms

FUSION = 60
"""The constant of reciprocal rank fusion; 60 in the source that `fused` names."""
BESIDE = 0.7
"""Factor on the scores of tests, examples and documents."""
_BESIDE = frozenset(("test", "tests", "testing", "doc", "docs", "example", "examples", "benchmarks"))


@dataclass(frozen=True)
class Place:
    """A passage of a file."""

    path: str
    passage: Passage


class TreeIndex:
    """Search in one state of a tree. Immutable; the BM25 ranking is made when first needed."""

    def __init__(
        self,
        digests: Mapping[str, str],
        files: Mapping[str, bytes],
        outlines: Mapping[str, Outline],
    ) -> None:
        """`digests` names every file of the tree; `files` and `outlines` are those that are searched."""
        self.digests = digests
        self.files = files
        self.outlines = outlines

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """Every passage, by path and then by where it begins."""
        return tuple(
            Place(path, passage) for path, outline in self.outlines.items() for passage in outline.passages
        )

    def definitions(self, query: str) -> list[tuple[str, Definition]]:
        """Find definitions by name, `Class.method` or `module.name`."""
        name = query.rpartition(".")[2]
        return [
            (path, definition)
            for path, outline in self.outlines.items()
            for definition in outline.definitions
            if definition.name == name and f".{_dotted(path)}.{definition.qualified}".endswith(f".{query}")
        ]

    def names(self) -> Collection[str]:
        """Every name that is defined, once."""
        return {definition.name for outline in self.outlines.values() for definition in outline.definitions}

    def uses(self, name: str) -> list[tuple[str, int]]:
        """Find the (path, line) pairs that use an identifier, without its definitions."""
        return [
            (path, line)
            for path, outline in self.outlines.items()
            for line in (outline.uses or {}).get(name, ())
        ]

    def words(self, name: str, paths: Iterable[str]) -> list[tuple[str, int]]:
        """Find the lines of files without symbols that hold a word."""
        word = re.compile(rb"(?<!\w)" + re.escape(name.encode("utf-8", "surrogateescape")) + rb"(?!\w)")
        found: list[tuple[str, int]] = []
        for path in paths:
            data = self.files[path]
            if self.outlines[path].uses is None and word.search(data):
                rows = enumerate(data.split(b"\n"), start=1)
                found += [(path, number) for number, line in rows if word.search(line)]
        return found

    def enclosing(self, path: str, line: int) -> str:
        """Return the qualified name of the function or class around a line; empty for none."""
        around = [
            definition.qualified
            for definition in self.outlines[path].definitions
            if definition.start <= line <= definition.end and definition.kind in ("function", "class")
        ]
        return around[-1] if around else ""

    def lines(self, path: str) -> tuple[str, ...]:
        """Return a file's lines as text, without their ends."""
        return _lines(self.files[path])

    def rank(self, query: str) -> list[int]:
        """Return the numbers of the places that share a term with a question, best first."""
        known = [term for term in dict.fromkeys(terms(query)) if term in self._vocabulary]
        if not known:
            return []
        scores = self._bm25.get_scores([str(self._vocabulary[term]) for term in known]) * self._standing
        best = np.argsort(-scores, kind="stable")
        return [int(number) for number in best if scores[number] > 0]

    def weight(self, term: str) -> float:
        """Return a term's inverse document frequency: log((1 + passages) / (1 + passages with the term))."""
        return math.log((1 + len(self.places)) / (1 + self._frequency.get(term, 0)))

    @cached_property
    def _standing(self) -> np.ndarray:
        """The factor on the score of each place, [places]: code counts more than tests and documents, since a
        question usually asks for code."""
        return np.array([BESIDE if _is_beside(place) else 1.0 for place in self.places], np.float32)

    @cached_property
    def _frequency(self) -> Mapping[str, int]:
        return Counter(term for place in self.places for term in place.passage.terms)

    @cached_property
    def _vocabulary(self) -> Mapping[str, int]:
        return {term: number for number, term in enumerate(self._frequency)}

    @cached_property
    def _bm25(self) -> Any:
        import bm25s  # brings numba, where that is installed

        corpus = [
            [
                number
                for term, count in place.passage.terms.items()
                for number in [self._vocabulary[term]] * count
            ]
            for place in self.places
        ]
        vocabulary = {str(number): number for number in self._vocabulary.values()}
        ranking = bm25s.BM25(method="lucene")
        ranking.index((corpus, vocabulary), show_progress=False)
        return ranking

    def text(self, place: Place, limit: int) -> str:
        """Return a passage as text for an embedder: its place, then its lines, cut to `limit` characters."""
        lines = self.lines(place.path)
        own = "\n".join(lines[number - 1] for number in place.passage.lines())
        return f"{place.path} {place.passage.name}\n{own}"[:limit]


def nearest(vectors: np.ndarray, question: np.ndarray) -> list[int]:
    """Rank rows [passages, dimensions] by their cosine to a question [dimensions], best first."""
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(question)
    cosines = vectors @ question / np.where(lengths == 0, 1.0, lengths)
    return [int(number) for number in np.argsort(-cosines, kind="stable")]


def fused(rankings: Sequence[Sequence[int]]) -> list[int]:
    """Join rankings by reciprocal rank: a place scores the sum of 1 / (60 + rank) over them.

    G. V. Cormack, C. L. A. Clarke, S. Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual
    Rank Learning Methods", SIGIR 2009.
    """
    scores: Counter[int] = Counter()
    for ranking in rankings:
        for rank, number in enumerate(ranking, start=1):
            scores[number] += 1 / (FUSION + rank)  # pyright: ignore[reportArgumentType]
    return sorted(scores, key=lambda number: (-scores[number], number))


def make_index(
    digests: Mapping[str, str], files: Mapping[str, bytes], read: Callable[[str, str, bytes], Outline]
) -> TreeIndex:
    """Make the index of a tree. `read` returns a file's outline from path, SHA-256 and content."""
    searched = {path: files[path] for path in sorted(files)}
    outlines = {path: read(path, digests[path], data) for path, data in searched.items()}
    return TreeIndex(digests, searched, outlines)


@lru_cache(maxsize=64)
def _lines(data: bytes) -> tuple[str, ...]:
    return tuple(data.decode("utf-8", "replace").split("\n"))


def _is_beside(place: Place) -> bool:
    *folders, name = place.path.split("/")
    return bool(
        place.passage.kind in ("section", "block")
        or _BESIDE.intersection(folders)
        or name.startswith(("test_", "conftest."))
    )


def _dotted(path: str) -> str:
    return re.sub(r"(/__init__)?\.\w+$", "", path).replace("/", ".")
