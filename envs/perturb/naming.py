"""New names for old ones: the same word with a neutral one beside it.

What a name says stays, so that the code is as easy to understand as it was; what was learned by heart does
not fit any more.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from itertools import count

_BEFORE = ("the", "this", "given", "own", "cur", "our")
_AFTER = ("here", "now", "part", "used", "item", "one")


class Namer:
    """Gives every name a new one that nobody has: the same one for the same name."""

    def __init__(self, seed: int, taken: Collection[str]) -> None:
        self._seed = seed
        self._taken = set(taken)
        self._given: dict[str, str] = {}

    def new(self, name: str) -> str:
        """Return the new name, in the style of the old one."""
        if name not in self._given:
            self._given[name] = self._found(name)
            self._taken.add(self._given[name])
        return self._given[name]

    def _found(self, name: str) -> str:
        words = [(word, True) for word in _BEFORE] + [(word, False) for word in _AFTER]
        random.Random(f"{self._seed} name {name}").shuffle(words)
        for turn in count():
            for word, before in words:
                new = _joined(name, word + (str(turn) if turn else ""), before=before)
                if new not in self._taken:
                    return new
        raise AssertionError("counting ends")


def _joined(name: str, word: str, *, before: bool) -> str:
    bare = name.lstrip("_")
    lead = name[: len(name) - len(bare)]
    if bare.isupper() and len(bare) > 1:
        return f"{lead}{word.upper()}_{bare}" if before else f"{lead}{bare}_{word.upper()}"
    if bare[:1].isupper():
        return f"{lead}{word.capitalize()}{bare}" if before else f"{lead}{bare}{word.capitalize()}"
    return f"{lead}{word}_{bare}" if before else f"{lead}{bare}_{word}"
