"""The vocabulary of practice repositories, and which of its words training never sees.

A name is a verb and a noun, such as `split_price`. A hash of the pair decides its split, so every verb and
every noun is practised on and a fifth of the pairs is new in the held-out split. Constants are split by
value.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

VERBS = tuple(
    "get set make build find load save parse read write count sum pick join split pack "  # noqa: SIM905
    "merge scale shift clip rank sort mark plan send fetch trim wrap bind cast fold seek".split()
)
NOUNS = tuple(
    "rate cost tax item user page node path size time date name list row col key "  # noqa: SIM905
    "unit step score price total limit width depth level range index ratio value weight".split()
)
PARAMETERS = (
    "amount",
    "count",
    "size",
    "rate",
    "start",
    "length",
    "first",
    "second",
    "left",
    "right",
    "low",
    "high",
)
FILES = ["core", "util", "data", "calc", "text", "form", "main", "base", "plan", "item", "site", "tool"]
AUTHORS = ["Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Hana"]


@dataclass(frozen=True)
class Domain:
    """The subject of a package, as its name and its README say."""

    package: str
    subject: str


DOMAINS = (
    Domain("shop", "Sums of a small shop."),
    Domain("garden", "Plans for beds and paths."),
    Domain("kitchen", "Portions and times of recipes."),
    Domain("harbor", "Berths, tides and fees."),
    Domain("library", "Loans, shelves and reminders."),
    Domain("railway", "Seats, stops and fares."),
    Domain("weather", "Readings of a small station."),
    Domain("orchard", "Rows, crates and harvests."),
)

CONSTANTS = tuple(range(2, 30))


def is_heldout_name(verb: str, noun: str) -> bool:
    """Whether only the held-out split may use the name."""
    return zlib.crc32(f"{verb}_{noun}".encode()) % 5 == 0


def names_of(split: str) -> list[str]:
    """Function names of a split, `train` or `heldout`, in a fixed order."""
    wanted = split == "heldout"
    return [f"{verb}_{noun}" for verb in VERBS for noun in NOUNS if is_heldout_name(verb, noun) == wanted]


def constants_of(split: str) -> list[int]:
    """Values that the right code of a split holds; a fifth of them is held out."""
    wanted = split == "heldout"
    return [value for value in CONSTANTS if (value % 5 == 0) == wanted]
