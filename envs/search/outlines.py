"""Outline of one file for search: definitions, uses, and passages as weighted terms.

A passage is a function, a class without its methods, the rest of a module, a section of a document, or a
block of any other text. A passage depends on path and content alone, so all trees with the file share
the passage.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import PurePosixPath

from pydantic import TypeAdapter

from .grammars import Definition, Symbols, symbols
from .words import terms

FILE_LIMIT = 512 * 1024
"""Bytes of the largest file that is read for symbols and passages."""
PASSAGES = 1_000
"""Most passages of one file."""
BLOCK_LINES = 40
NAME_WEIGHT, PATH_WEIGHT, PROSE_WEIGHT = 3, 1, 2
"""Weights of a term in the name, in the path and in the documentation; elsewhere the weight is 1."""

_DATA = frozenset(
    (
        ".json",
        ".csv",
        ".tsv",
        ".svg",
        ".lock",
        ".po",
        ".pot",
        ".ipynb",
        ".map",
        ".sum",
        ".snap",
        ".xml",
        ".html",
        ".css",
    )
)
"""Suffixes of files that hold data or markup: found by text, not by meaning."""
_DOCUMENTS = frozenset((".md", ".rst", ".txt", ""))
_LEFT_OUT = frozenset(
    (
        ".git",
        ".hg",
        ".venv",
        ".tox",
        ".nox",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        ".hypothesis",
        "node_modules",
    )
)
_UNDERLINE = re.compile(r"([=\-~^\"'*#+.])\1{2,}\s*$")

Span = tuple[int, int]
"""First and last line, from 1."""


@dataclass(frozen=True)
class Passage:
    """Lines that belong together, and the terms in them with their weights."""

    kind: str
    name: str
    line: int
    """The number of the passage's heading line: a signature or a document heading."""
    spans: tuple[Span, ...]
    """The passage's lines as spans, without lines of nested passages."""
    terms: Mapping[str, int]

    @property
    def start(self) -> int:
        return self.spans[0][0]

    @property
    def end(self) -> int:
        return self.spans[-1][1]

    def lines(self) -> Iterator[int]:
        """Yield the numbers of the passage's lines."""
        for first, last in self.spans:
            yield from range(first, last + 1)


@dataclass(frozen=True)
class Outline:
    """Definitions, uses and passages of one file."""

    passages: tuple[Passage, ...] = ()
    definitions: tuple[Definition, ...] = ()
    uses: Mapping[str, tuple[int, ...]] | None = None
    """None for a file without a grammar, and for a file whose parse took too long."""


def is_searched(path: str, data: bytes) -> bool:
    """Whether search covers a file: text, not too large, outside tools' own folders."""
    return (
        len(data) <= FILE_LIMIT
        and b"\0" not in data[:8192]
        and not _LEFT_OUT.intersection(PurePosixPath(path).parts[:-1])
    )


def outline(path: str, data: bytes) -> Outline:
    """Read one file. Bytes that are not UTF-8 become U+FFFD; lines end at newlines only."""
    lines = data.decode("utf-8", "replace").split("\n")
    found = symbols(path, data)
    if found is not None:
        parts: Iterable[Passage] = _code_passages(path, lines, found)
    elif PurePosixPath(path).suffix in _DATA:
        parts = ()
    else:
        parts = _text_passages(path, lines)
    passages = tuple(passage for passage in islice(parts, PASSAGES) if passage.terms)
    if found is None:
        return Outline(passages)
    uses = {sys.intern(name): rows for name, rows in found.uses.items()}
    return Outline(passages, found.definitions, uses)


def encode(outline: Outline) -> bytes:
    """Write an outline as JSON."""
    return json.dumps(asdict(outline), ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def decode(data: bytes) -> Outline:
    """Read what `encode` wrote. Raises ValueError."""
    return TypeAdapter(Outline).validate_json(data)


def _code_passages(path: str, lines: Sequence[str], found: Symbols) -> Iterator[Passage]:
    """Yield one passage per function and class, and one for the rest of the module.

    A line belongs to the innermost class or outermost function around the line.
    """
    module = Definition("module", "", "", 1, len(lines), 1)
    owners = [
        definition
        for definition in found.definitions
        if definition.kind in ("function", "class") and not definition.inside_function
    ]
    owner = [module] * (len(lines) + 1)
    for definition in owners:  # outer before inner
        owner[definition.start : definition.end + 1] = [definition] * (definition.end + 1 - definition.start)
    mine: dict[Definition, list[int]] = {definition: [] for definition in [module, *owners]}
    for number in range(1, len(lines) + 1):
        if lines[number - 1].strip():
            mine[owner[number]].append(number)
    for definition, numbers in mine.items():
        if numbers:
            name = definition.qualified or PurePosixPath(path).name
            inside = [
                inner.name for inner in owners if inner.qualified == f"{definition.qualified}.{inner.name}"
            ]
            counts = _weighed(path, [definition.qualified], lines, numbers, found.prose)
            counts.update(terms(" ".join(inside)))
            yield Passage(definition.kind, name, definition.line, _spans(numbers), _interned(counts))


def _text_passages(path: str, lines: Sequence[str]) -> Iterator[Passage]:
    """Yield the sections of a document by headings, or blocks of any other text."""
    document = PurePosixPath(path).suffix.lower() in _DOCUMENTS
    starts = [0, *(_headings(lines) if document else ())]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        for first, last in _blocks(lines, start, end):
            numbers = [number for number in range(first + 1, last + 1) if lines[number - 1].strip()]
            if numbers:
                title = lines[start].strip(" #\t")
                counts = _weighed(path, [title] if document else [], lines, numbers, frozenset())
                kind = "section" if document else "block"
                yield Passage(kind, title[:80], numbers[0], _spans(numbers), _interned(counts))


def _headings(lines: Sequence[str]) -> Iterator[int]:
    for number, line in enumerate(lines[:-1]):
        underlined = _UNDERLINE.match(lines[number + 1]) and line.strip() and not _UNDERLINE.match(line)
        if number and (line.startswith("#") or underlined):
            yield number


def _blocks(lines: Sequence[str], start: int, end: int) -> Iterator[Span]:
    """Cut [start, end) into blocks, at an empty line where there is one in the second half."""
    while end - start > BLOCK_LINES:
        half = start + BLOCK_LINES // 2
        empty = [number for number in range(half, start + BLOCK_LINES) if not lines[number].strip()]
        cut = (empty[-1] if empty else start + BLOCK_LINES - 1) + 1
        yield start, cut
        start = cut
    yield start, end


def _weighed(
    path: str, names: Sequence[str], lines: Sequence[str], numbers: Sequence[int], prose: frozenset[int]
) -> Counter[str]:
    counts: Counter[str] = Counter()
    for number in numbers:
        weight = PROSE_WEIGHT if number in prose else 1
        for term in terms(lines[number - 1]):
            counts[term] += weight
    for weight, text in ((NAME_WEIGHT, " ".join(names)), (PATH_WEIGHT, path)):
        for term in terms(text):
            counts[term] += weight
    return counts


def _interned(counts: Mapping[str, int]) -> dict[str, int]:
    return {sys.intern(term): count for term, count in counts.items()}


def _spans(numbers: Sequence[int]) -> tuple[Span, ...]:
    spans: list[Span] = []
    for number in numbers:
        if spans and number <= spans[-1][1] + 2:  # an empty line between does not part them
            spans[-1] = (spans[-1][0], number)
        else:
            spans.append((number, number))
    return tuple(spans)
