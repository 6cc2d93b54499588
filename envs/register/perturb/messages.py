"""Reword error and log messages that neither tests nor documents quote."""

from __future__ import annotations

import ast
import random
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from itertools import pairwise

from .source import Edit, Source, checked, edited
from .survey import WORD, Survey

_LOGS = {"debug", "info", "warning", "error", "exception", "critical", "warn"}
_OPENINGS = ("Note: ", "Sorry: ", "Problem: ", "Attention: ")
_FEWEST_WORDS = 3


def private_messages(found: Survey, *, seed: int, known: str) -> dict[str, str]:
    """Map messages to their new text: `no such key` to `Sorry: no such key`.

    A message that shares two consecutive words with a test, a document or `known` stays, since the text may
    be quoted there. `known` is the instruction.
    """
    pairs = {pair for text in (*found.texts, known) for pair in _pairs(text)}
    messages = {
        str(node.value)
        for versions in found.product.values()
        for source in versions
        for node in _messages(source)
    }
    return {
        text: random.Random(f"{seed} message {text}").choice(_OPENINGS) + text
        for text in sorted(messages)
        if not pairs & set(_pairs(text))
    }


def rewrite_messages(source: Source, messages: Mapping[str, str]) -> bytes:
    """Reword the messages of one file and return the file's new bytes."""
    nodes = [node for node in _messages(source) if node.value in messages]
    if not nodes:
        return source.data
    edits = [Edit(*source.span(node), _literal(source, node, messages[str(node.value)])) for node in nodes]
    places = {(node.lineno, node.col_offset) for node in nodes}
    after = edited(source.data, edits)
    return checked(source.data, after, partial(_reword, places=places, messages=messages))


def _messages(source: Source) -> Iterator[ast.Constant]:
    """Yield raised or logged string literals of one line and at least `_FEWEST_WORDS` words."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            call = node.exc
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _LOGS:
            call = node
        else:
            continue
        first = call.args[0] if call.args else None
        if (
            isinstance(first, ast.Constant)
            and isinstance(first.value, str)
            and first.lineno == first.end_lineno
            and len(WORD.findall(first.value)) >= _FEWEST_WORDS
            and "\\" not in source.data[slice(*source.span(first))].decode()
        ):
            yield first


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    words = [word.lower() for word in WORD.findall(text)]
    return pairwise(words)


def _literal(source: Source, node: ast.Constant, new: str) -> bytes:
    """Replace a literal's text and keep its quotes; `checked` rejects a wrong result."""
    text = source.data[slice(*source.span(node))].decode()
    old = str(node.value)
    return text.replace(old, new, 1).encode()


def _reword(tree: ast.Module, *, places: Collection[tuple[int, int]], messages: Mapping[str, str]) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and (node.lineno, node.col_offset) in places:
            node.value = messages.get(str(node.value), str(node.value))
