"""The bugs of practice repositories, by family: where the evidence for the right code stands.

code    in the code: the docstring says another operation, or a parameter is never used
test    in a failing test: the first plausible fix is often wrong, and the test's output says why
pr      only in a past pull request, which states the right figure or operation
two     like `code` or `test`, in two functions that the instruction names
alias   like `code` or `test`, in a function that the instruction calls by another name
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .functions import CHOICES, OPERATOR_WORDS, Function, neighbours
from .words import CONSTANTS

FAMILIES: Mapping[str, float] = {"code": 0.25, "test": 0.25, "pr": 0.3, "two": 0.1, "alias": 0.1}
"""Share of the tasks."""


@dataclass(frozen=True)
class Bug:
    """A function with one slot filled wrongly."""

    kind: str
    """`operator`, `sign`, `pick`, `unused`, `comparison`, `off by one`, `swapped` or `constant`."""
    right: Function
    wrong: Function
    statement: str = ""
    """What a pull request states of the right code, such as `17` or `multiply by`; empty for none."""


def draw_bug(chance: random.Random, family: str, function: Function) -> Bug | None:
    """Break a function so that the family's evidence exists; None where the function's shape allows none."""
    makers = [*_MAKERS[family]]
    chance.shuffle(makers)
    # Nearly every function can lose a parameter: the rarer bugs go first, or there would be few of them.
    makers.sort(key=lambda make: make is _unused and chance.random() < 0.8)
    return next((bug for make in makers if (bug := make(chance, function)) is not None), None)


def _choice(slot: str, kind: str) -> Callable[[random.Random, Function], Bug | None]:
    def make(chance: random.Random, right: Function) -> Bug | None:
        now = right.values.get(slot)
        if now is None or (kind in ("operator", "sign", "pick") and not right.documented):
            return None
        other = chance.choice([choice for choice in CHOICES[slot] if choice != now])
        return Bug(kind, right, right.filled(**{slot: other}))

    return make


def _unused(chance: random.Random, right: Function) -> Bug | None:
    a, b = right.values["a"], right.values["b"]
    return Bug("unused", right, right.filled(a=b) if chance.random() < 0.5 else right.filled(b=a))


def _off_by_one(chance: random.Random, right: Function) -> Bug | None:
    if "c" not in right.values or "cmp" in right.values:
        return None
    return Bug("off by one", right, right.filled(c=str(int(right.values["c"]) + chance.choice((-1, 1)))))


def _swapped(_chance: random.Random, right: Function) -> Bug | None:
    if "callee" not in right.values:
        return None
    return Bug("swapped", right, right.filled(a=right.values["b"], b=right.values["a"]))


def _constant(chance: random.Random, right: Function) -> Bug | None:
    now = right.values.get("c")
    if now is None or right.documented or "cmp" in right.values:
        return None
    wrong = chance.choice([value for value in CONSTANTS if abs(value - int(now)) > 1])
    return Bug("constant", right, right.filled(c=str(wrong)), statement=now)


def _stated_operator(chance: random.Random, right: Function) -> Bug | None:
    now = right.values.get("op")
    if now is None or right.documented:
        return None
    other = chance.choice([choice for choice in CHOICES["op"] if choice != now])
    return Bug("operator", right, right.filled(op=other), statement=OPERATOR_WORDS[now])


_CODE = (_choice("op", "operator"), _choice("then", "sign"), _choice("pick", "pick"), _unused)
_TEST = (_choice("cmp", "comparison"), _off_by_one, _swapped)
_MAKERS: Mapping[str, Sequence[Callable[[random.Random, Function], Bug | None]]] = {
    "code": _CODE,
    "test": _TEST,
    "pr": (_constant, _constant, _stated_operator),
    "two": (*_CODE, *_TEST),
    "alias": (*_CODE, *_TEST),
}


Case = tuple[tuple[int, int], int | bool]
"""Arguments and the right value."""


def grid(chance: random.Random, function: Function) -> list[tuple[int, int]]:
    """Arguments to try: small ones, zero, those around the function's constants, and random ones."""
    near = [int(function.values[slot]) for slot in ("c", "d") if slot in function.values]
    edges = [(value + shift, other) for value in (*near, 5) for shift in (-1, 0, 1) for other in (0, 5)]
    steep = [
        point
        for value in near
        for point in ((2 * value, 2 * value), (3 * value, 3 * value + 1), (-value,) * 2)
    ]
    mixed = [(0, 4), (7, 2), (3, 4), (40, 3), (2, 40), *edges, *((y, x) for x, y in edges), *steep]
    mixed += [(chance.randint(-20, 60), chance.randint(-20, 60)) for _ in range(10)]
    return list(dict.fromkeys(mixed))


def hidden_cases(chance: random.Random, function: Function, callee: Function | None) -> list[Case]:
    """Choose cases that every plausible wrong fix (`neighbours`) fails, unless it is right everywhere."""
    points = grid(chance, function)
    chance.shuffle(points)
    right = _values(function, callee, points)
    chosen = [0, 1]
    for other in neighbours(function):
        wrong = _values(other, callee, points)
        if all(wrong[place] == right[place] for place in chosen):
            chosen += [place for place in range(len(points)) if wrong[place] != right[place]][:1]
    return [(points[place], right[place]) for place in chosen]


def visible_cases(
    chance: random.Random, bug: Bug | None, function: Function, callee: Function | None, *, silent: bool
) -> list[Case]:
    """Choose up to two cases. The first fails with the bug, or, where it is `silent`, neither does."""
    points = grid(chance, function)
    chance.shuffle(points)
    right = _values(function, callee, points)
    cases = list(zip(points, right, strict=True))
    if bug is None:
        return cases[:2]
    wrong = _values(bug.wrong, callee, points)
    same = [case for case, value in zip(cases, wrong, strict=True) if case[1] == value]
    differing = [case for case, value in zip(cases, wrong, strict=True) if case[1] != value]
    return same[:2] if silent else [*differing[:1], *same, *differing[1:]][:2]


def _values(
    function: Function, callee: Function | None, points: Sequence[tuple[int, int]]
) -> list[int | bool]:
    evaluate = function.evaluator(callee)
    return [evaluate(x, y) for x, y in points]
