"""Find definitions and uses in a source file by its language's tree-sitter grammar.

A grammar is one row of `GRAMMARS`: a tree-sitter package with a tags query, in which by convention
`@definition.<kind>` spans a definition and `@name` its name (tree-sitter's documentation, "Code Navigation
Systems"). A file without a grammar has no symbols; search falls back to words.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

DEEP, WIDE = 200, 2_000
"""A syntax tree deeper than this, or broken with a node that has more children, is not looked into."""


@dataclass(frozen=True)
class Grammar:
    """A tree-sitter package, and what the package's tags query leaves out."""

    package: str
    more: str = ""
    """Further patterns; `@prose` marks documentation inside code."""


_PYTHON = """
(class_definition body: (block (expression_statement
    (assignment left: (identifier) @name) @definition.attribute)))
(module . (expression_statement (string) @prose))
(module . (comment)+ . (expression_statement (string) @prose))
(block . (expression_statement (string) @prose))
"""

GRAMMARS = {
    ".py": Grammar("tree_sitter_python", _PYTHON),
    ".pyi": Grammar("tree_sitter_python", _PYTHON),
}


@dataclass(frozen=True)
class Definition:
    """A definition in a file. Lines count from 1 and include decorators."""

    kind: str
    name: str
    qualified: str
    """The name after the names of the enclosing definitions: `Command.invoke`."""
    start: int
    end: int
    line: int
    """The line of the name."""
    inside_function: bool = False


@dataclass(frozen=True)
class Symbols:
    """The definitions, uses and documentation of one file."""

    definitions: tuple[Definition, ...]
    uses: dict[str, tuple[int, ...]]
    """Identifier to the lines that hold it other than as the name of its definition."""
    prose: frozenset[int]
    """Lines of docstrings."""


def symbols(path: str, data: bytes) -> Symbols | None:
    """Parse a file; broken syntax gives partial symbols. None without a grammar, or for hopeless syntax."""
    grammar = GRAMMARS.get(PurePosixPath(path).suffix)
    if grammar is None:
        return None
    import tree_sitter

    language, tags, identifiers = _loaded(grammar)
    tree = tree_sitter.Parser(language).parse(data)
    if not _is_readable(tree):
        return None
    found: dict[int, tuple[str, Any, Any]] = {}
    prose: set[int] = set()
    for _, captures in tree_sitter.QueryCursor(tags).matches(tree.root_node):
        for node in captures.get("prose", ()):
            prose.update(range(node.start_point.row + 1, node.end_point.row + 2))
        kind = next((key.partition(".")[2] for key in captures if key.startswith("definition.")), "")
        if kind:
            name = captures["name"][0]
            found.setdefault(name.id, (kind, name, captures[f"definition.{kind}"][0]))
    uses: dict[str, set[int]] = {}
    for node in tree_sitter.QueryCursor(identifiers).captures(tree.root_node).get("use", ()):
        if node.id not in found:
            uses.setdefault(_text(node), set()).add(node.start_point.row + 1)
    lines = {name: tuple(sorted(rows)) for name, rows in sorted(uses.items())}
    return Symbols(tuple(_nested(found.values())), lines, frozenset(prose))


def _is_readable(tree: Any) -> bool:
    """Return whether queries can run over a tree: in a very deep or a wide, broken one they take minutes."""
    cursor, widths, broken = tree.walk(), [0], tree.root_node.has_error
    while True:
        if cursor.goto_first_child():
            widths.append(1)
            if len(widths) > DEEP:
                return False
            continue
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                return True
            widths.pop()
        widths[-1] += 1
        if broken and widths[-1] > WIDE:
            return False


@lru_cache
def _loaded(grammar: Grammar) -> tuple[Any, Any, Any]:
    import tree_sitter

    package = importlib.import_module(grammar.package)
    language = tree_sitter.Language(package.language())
    kinds = {language.node_kind_for_id(number) for number in range(language.node_kind_count)}
    names = sorted(kind for kind in kinds if kind and kind.endswith("identifier"))
    identifiers = "[" + " ".join(f"({kind})" for kind in names) + "] @use"
    return (
        language,
        tree_sitter.Query(language, package.TAGS_QUERY + grammar.more),
        tree_sitter.Query(language, identifiers),
    )


def _nested(found: Iterable[tuple[str, Any, Any]]) -> Iterator[Definition]:
    """Yield definitions with qualified names; `found` holds (kind, name node, definition node)."""
    rows = []
    for kind, name, node in found:
        whole = node.parent if node.parent is not None and node.parent.type.startswith("decorated") else node
        rows.append((whole.start_byte, -whole.end_byte, kind, _text(name), whole, name.start_point.row + 1))
    around: list[tuple[int, str, str]] = []  # (end byte, kind, qualified name) of what is still open
    for start, minus_end, kind, name, whole, line in sorted(rows, key=lambda row: row[:4]):
        while around and around[-1][0] <= start:
            around.pop()
        qualified = f"{around[-1][2]}.{name}" if around else name
        inside = any(outer == "function" for _, outer, _ in around)
        yield Definition(
            kind, name, qualified, whole.start_point.row + 1, whole.end_point.row + 1, line, inside
        )
        if kind not in ("constant", "attribute"):
            around.append((-minus_end, kind, qualified))


def _text(node: Any) -> str:
    return node.text.decode("utf-8", "replace")
