"""The functions of practice repositories: one expression each, with slots that a bug can fill wrongly.

    Shape("{a} {op} {c} {then} {b}", "{Op} {a} {by} {c}, then {then_word} {b}.")

filled with `a=amount, op=*, c=12, then=+, b=count` is `return amount * 12 + count`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

OPERATORS = ("+", "-", "*", "//")
SIGNS = ("+", "-")
COMPARISONS = ("<", "<=", ">", ">=")
PICKS = ("min", "max")
OPERATOR_WORDS = {"+": "add", "-": "subtract", "*": "multiply by", "//": "divide by"}
PICK_WORDS = {"min": "smaller", "max": "larger"}

CHOICES: Mapping[str, Sequence[str]] = {
    "op": OPERATORS,
    "then": SIGNS,
    "cmp": COMPARISONS,
    "pick": PICKS,
}
"""Slots that hold one of a few signs or names."""


@dataclass(frozen=True)
class Shape:
    """An expression over two parameters, with named slots."""

    text: str
    words: str = ""
    """The docstring that says what the expression does; empty: the shape has none."""
    heldout: bool = False
    """Whether only held-out tasks are about functions of this shape."""

    def has(self, slot: str) -> bool:
        return f"{{{slot}}}" in self.text


SHAPES = (
    Shape("{a} {op} {c} {then} {b}", "Take {a}, {op_word} {c}, then {then_word} {b}."),
    Shape("({a} {then} {b}) {op} {c}", "Take {a}, {then_word} {b}, then {op_word} {c}."),
    Shape("{b} {then} {a} * {c}"),
    Shape("{a} * {c} - {b} * {d}"),
    Shape("{a} {cmp} {b} {then} {c}"),
    Shape("{pick}({a}, {c}) {then} {b}", "Take the {pick_word} of {a} and {c}, then {then_word} {b}."),
    Shape("{callee}({a}, {b})"),
    Shape("{a} * {c} + {b} // {d}", heldout=True),
    Shape("{a} {then} {c} {cmp} {b}", heldout=True),
    Shape(
        "{pick}({a}, {b}) {op} {c}", "Take the {pick_word} of {a} and {b}, then {op_word} {c}.", heldout=True
    ),
    Shape("{callee}({a}, {b}) {then} {c}", heldout=True),
)


@dataclass(frozen=True)
class Function:
    """A function of two numbers: `def NAME(A, B): return EXPRESSION`."""

    name: str
    parameters: tuple[str, str]
    shape: Shape
    slots: tuple[tuple[str, str], ...]
    """Slot to text, `("op", "*")`; `a` and `b` are parameter names."""
    documented: bool = False

    @property
    def values(self) -> dict[str, str]:
        return dict(self.slots)

    @property
    def expression(self) -> str:
        return self.shape.text.format(**self.values)

    @property
    def docstring(self) -> str:
        """What the right code does, in words; the docstring stays when a bug changes the code."""
        values = self.values
        words = {
            "op_word": OPERATOR_WORDS.get(values.get("op", ""), ""),
            "then_word": OPERATOR_WORDS.get(values.get("then", ""), ""),
            "pick_word": PICK_WORDS.get(values.get("pick", ""), ""),
        }
        return self.shape.words.format(**values, **words) if self.documented else ""

    def filled(self, **slots: str) -> Function:
        """Return the function with other slots."""
        return replace(self, slots=tuple((self.values | slots).items()))

    def lines(self, docstring: str) -> list[str]:
        """Source lines of the function."""
        head = f"def {self.name}({', '.join(self.parameters)}):"
        return [head, *([f'    """{docstring}"""'] if docstring else []), f"    return {self.expression}"]

    def evaluator(self, callee: Function | None = None) -> Callable[[int, int], int | bool]:
        """Return the function itself, to be called in this process."""
        scope: dict[str, Any] = {"__builtins__": {"min": min, "max": max}}
        if callee is not None:
            scope[callee.name] = callee.evaluator()
        return eval(f"lambda {', '.join(self.parameters)}: {self.expression}", scope)


def draw_function(
    chance: random.Random,
    name: str,
    parameters: tuple[str, str],
    shape: Shape,
    *,
    constants: Sequence[int],
    callee: str = "",
    documented: bool = False,
) -> Function:
    """Fill a shape at random."""
    a, b = parameters
    slots = {"a": a, "b": b}
    if shape.has("callee"):
        slots["callee"] = callee
        if chance.random() < 0.5:
            slots["a"], slots["b"] = b, a
    for slot in ("c", "d"):
        if shape.has(slot):
            slots[slot] = str(chance.choice(constants))
    for slot, choices in CHOICES.items():
        if shape.has(slot):
            slots[slot] = chance.choice(choices)
    return Function(name, parameters, shape, tuple(slots.items()), documented and bool(shape.words))


def neighbours(function: Function) -> Iterator[Function]:
    """Every function that differs in one small way: what a plausible wrong fix looks like.

    Another sign, a constant that is one off, one parameter in place of the other, arguments swapped.
    """
    values = function.values
    for slot, choices in CHOICES.items():
        if slot in values:
            yield from (function.filled(**{slot: other}) for other in choices if other != values[slot])
    for slot in ("c", "d"):
        if slot in values:
            yield from (function.filled(**{slot: str(int(values[slot]) + step)}) for step in (-1, 1))
    a, b = values["a"], values["b"]
    yield function.filled(a=b)
    yield function.filled(b=a)
    yield function.filled(a=b, b=a)
