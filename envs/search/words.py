"""Split code and prose into terms: identifier parts, stemmed, without stop words."""

from __future__ import annotations

import re
from functools import lru_cache

_WORD = re.compile(r"\w+")
_PART = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+|[^\W\d_A-Za-z]+")

_STOP_WORDS = frozenset(
    _WORD.findall(
        """
        a an and are as at be been being but by can could did do does doing for from get gets had has
        have how i if in into is it its me my no not of off on one or our out should so some than that
        the their them then there these they this those to too up upon us was we were what when where
        which while who whose why will with would you your cls def elif else except false finally import
        lambda none pass raise return self true try yield
        """
    )
)


def terms(text: str) -> list[str]:
    """Return the terms of a text in order: `maxRetries` gives `max`, `retry` and `maxretries`."""
    found: list[str] = []
    for word in _WORD.findall(text):
        found += terms_of_word(word)
    return found


@lru_cache(maxsize=100_000)
def terms_of_word(word: str) -> tuple[str, ...]:
    """Return the terms of one word: its parts' stems and, where it has several parts, the whole."""
    parts = [part.lower() for part in _PART.findall(word[:100])]
    stems = tuple(
        stem(part) for part in parts if part not in _STOP_WORDS and (len(part) > 1 or not word.isalpha())
    )
    return (*stems, word.lower()) if len(parts) > 1 else stems


def stem(word: str) -> str:
    """Cut an English word's ending so that `parse`, `parsed`, `parsing` and `parser` become one.

    A few of the steps of M. F. Porter, "An algorithm for suffix stripping", Program 14(3), 1980: plurals,
    then -ed, -ing, -er, -or and -ion, a doubled consonant, and a final e or y. Only lower-case ASCII.
    """
    if len(word) < 4 or not word.isascii() or word.isdigit():
        return word
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith(("sses", "xes", "ches", "shes")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending, least in (("ing", 3), ("ed", 3), ("ion", 4), ("er", 4), ("or", 4)):
        rest = word.removesuffix(ending)
        if rest != word and len(rest) >= least and any(letter in "aeiouy" for letter in rest):
            word = rest[:-1] if rest[-1] == rest[-2] and rest[-1] not in "lsz" else rest
            break
    if len(word) > 3 and word[-1] == "e":
        word = word[:-1]
    return word[:-1] + "i" if len(word) > 3 and word[-1] == "y" else word
