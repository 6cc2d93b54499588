"""An imperfect teacher: what a hasty colleague does on a practice task, knowing nothing but what is shown.

The teacher searches for the name in the instruction, views the file, perhaps asks for past pull requests,
tries fixes that look plausible, perhaps runs the tests, and submits, sometimes too early. A fix that did not
help is undone before another place is changed, so that every edit replaces a word or two of a line that was
shown last. The teacher never counts lines and never tries the same fix twice. It solves under half of
the tasks: its episodes, failures included, teach a policy what can be done, and leave reinforcement learning
to find out what should be done.
"""

from __future__ import annotations

import random
import re
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

from envs.register.practice.words import NOUNS, is_heldout_name
from envs.tools.base import ToolSpec
from envs.types import Observation, StopReason, Task, ToolCall

from ..types import Action
from .demonstrator import smallest

Lesson = Generator[ToolCall, Observation, None]
"""Yields calls and receives the observation of each."""

_NAME = re.compile(r"[a-z]+_[a-z]+")
_DEFINITION = re.compile(r"^(\S+\.py):\d+-\d+: function (\w+)$", re.M)
_ALIAS = re.compile(r"import (\w+) as (\w+)")
_TOKEN = re.compile(r"//|<=|>=|[-+*<>]|\w+")
_FACT = re.compile(r"must (?:use (?P<figure>\d+)|(?P<operation>add|subtract|multiply by|divide by))")
_OPERATIONS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "//"}
_OPERATORS, _COMPARISONS = ("+", "-", "*", "//"), ("<", "<=", ">", ">=")


@dataclass(frozen=True)
class Habits:
    """What one episode's teacher is like; each is a probability."""

    asks_first: float = 0.2
    """Of asking for pull requests before anything else."""
    asks_later: float = 0.3
    """Of asking for them once the code was seen, and after each failed test."""
    heeds: float = 0.9
    """Of doing what a pull request or a docstring says."""
    tests: float = 0.7
    """Of running the tests after an edit."""
    gives_up: float = 0.1
    """Of submitting after a failed test."""
    slips: float = 0.1
    """Of an edit that is refused, or a search for a wrong name, before the right one."""
    looks_again: float = 0.2
    """Of viewing the file once more after a refused edit."""
    fixes: int = 6
    """Fixes tried for one function at most."""


class TeacherPolicy:
    """Plays practice tasks as an imperfect colleague; the seed decides what it tries.

    With `drill`, the teacher changes every function of the file in some plausible way instead: many edits of
    a viewed file, which is how a small model learns to copy.
    """

    def __init__(self, habits: Habits | None = None, *, drill: bool = False) -> None:
        self._habits, self._drill = habits or Habits(), drill
        self.name = "drill" if drill else "teacher"

    def start(
        self, task: Task, tools: Sequence[ToolSpec], first: Observation, *, seed: int
    ) -> TeacherSession:
        """Begin an episode."""
        del tools
        return TeacherSession(self._habits, f"{seed} {task.id}", (first,), drill=self._drill)

    def close(self) -> None:
        """Do nothing: this policy holds no resources."""


class TeacherSession:
    """One episode. A fork plays the same observations again, from the start, to a lesson of its own."""

    def __init__(
        self, habits: Habits, seed: str, seen: Sequence[Observation], *, drill: bool = False
    ) -> None:
        self._habits, self._seed, self._seen, self._drill = habits, seed, list(seen), drill
        episode = _Episode(habits, random.Random(seed))
        self._lesson = (episode.drill if drill else episode.lesson)(seen[0].text)
        self._next = next(self._lesson)
        for observation in seen[1:]:
            self._go_on(observation)

    def act(self, *, deadline: float) -> Action | StopReason:
        """Return the next call."""
        del deadline  # a script answers at once
        return Action((ToolCall(f"call_{len(self._seen)}", self._next.name, self._next.arguments),))

    def observe(self, observations: Sequence[Observation]) -> None:
        """Receive the observation of the last call."""
        for observation in observations:
            self._seen.append(observation)
            self._go_on(observation)

    def fork(self, *, seed: int) -> TeacherSession:
        """Return a session at the same position; a teacher's choices stay those of its own seed."""
        del seed
        return TeacherSession(self._habits, self._seed, self._seen, drill=self._drill)

    def _go_on(self, observation: Observation) -> None:
        self._next = self._lesson.send(observation)


class _Episode:
    """The course of one episode."""

    def __init__(self, habits: Habits, chance: random.Random) -> None:
        self._habits, self._chance = habits, chance
        self._views: dict[str, list[str]] = {}

    def lesson(self, instruction: str) -> Lesson:
        """Work on each function that the instruction names, then submit; a lesson never runs out of calls."""
        names = list(dict.fromkeys(name.removeprefix("test_") for name in _named(instruction)))
        for name in names:
            yield from self._mend(name)
        while True:
            yield ToolCall("", "submit", {})

    def drill(self, instruction: str) -> Lesson:
        """Change every function of the file that the instruction is about, in any order."""
        found = yield from self._find(_named(instruction)[0].removeprefix("test_"))
        if found is not None:
            path, _ = found
            shown = yield ToolCall("", "view", {"path": path})
            lines = self._views[path] = _unnumbered(shown.text)
            names = [line[4:].partition("(")[0] for line in lines if line.startswith("def ")]
            for name in self._chance.sample(names, len(names)):
                place = _return_of(lines, name)
                if place is not None:
                    (new,) = self._chance.choices([fix for _, fix in _guesses(place)])
                    yield from self._edit(path, place.number, place.line, new)
        while True:
            yield ToolCall("", "submit", {})

    def _mend(self, called: str) -> Lesson:
        facts = list[str]()
        asked = self._likely(self._habits.asks_first)
        if asked:
            facts = yield from self._ask(called)
        found = yield from self._find(called)
        if found is None:
            return
        path, name = found
        if path not in self._views:
            shown = yield ToolCall("", "view", {"path": path})
            self._views[path] = _unnumbered(shown.text)
        if not asked and self._likely(self._habits.asks_later):
            asked, facts = True, (yield from self._ask(name))
        place = _return_of(self._views[path], name)
        if place is None:
            return
        yield from self._try(name, path, place, facts, asked)

    def _try(self, name: str, path: str, place: _Place, facts: list[str], asked: bool) -> Lesson:
        """Make plausible fixes until the tests pass, or patience ends."""
        now, tried = place.line, {place.line}
        for _ in range(self._habits.fixes):
            options = [fix for fix in self._options(place, facts) if fix[1] not in tried]
            if not options:
                return
            (new,) = self._chance.choices([fix for _, fix in options], [weight for weight, _ in options])
            if now != place.line and not _same_place(place.line, now, new):
                yield from self._edit(path, place.number, now, place.line)
                now = place.line
            yield from self._edit(path, place.number, now, new)
            now = new
            tried.add(new)
            if not self._likely(self._habits.tests):
                return
            report = yield ToolCall("", "test", {})
            if f"test_{name}" not in report.text or self._likely(self._habits.gives_up):
                return
            if not asked and self._likely(self._habits.asks_later):
                asked, facts = True, (yield from self._ask(name))

    def _options(self, place: _Place, facts: Sequence[str]) -> list[tuple[float, str]]:
        """Weigh the fixes to choose from: those that were stated, if the teacher heeds that, or guesses."""
        stated = [(1.0, fix) for fact in facts for fix in _as_stated(place.line, fact)]
        if not stated and place.docstring:
            stated = [(1.0, fix) for fix in _as_documented(place)]
        return stated if stated and self._likely(self._habits.heeds) else list(_guesses(place))

    def _edit(self, path: str, number: int, old: str, new: str) -> Lesson:
        """Edit a line; now and then the first try is refused, and the teacher looks again or knows better."""
        edit = smallest({"path": path, "old": old, "new": new, "line": number})
        # The line comes first: whoever has written its number can then read the text to copy off the view.
        edit = {name: edit[name] for name in ("path", "line", "old", "new")}
        if self._likely(self._habits.slips):
            slip = self._slip(path, number, edit)
            if slip is not None:
                yield ToolCall("", "edit", slip)
                if self._likely(self._habits.looks_again):
                    yield ToolCall("", "view", {"path": path})
        yield ToolCall("", "edit", edit)
        self._views[path][number - 1] = new

    def _slip(self, path: str, number: int, edit: dict[str, str | int]) -> dict[str, str | int] | None:
        """Return an edit that will be refused: of another line, or of text that stands in another line."""
        lines = self._views[path]
        if self._likely(0.5):
            others = [n for n, line in enumerate(lines, start=1) if str(edit["old"]) not in line]
            return {**edit, "line": self._chance.choice(others)} if others else None
        here = lines[number - 1]
        texts = [token[0] for line in lines for token in _TOKEN.finditer(line) if token[0] not in here]
        texts = [text for text in texts if text != edit["new"]]
        return {**edit, "old": self._chance.choice(texts)} if texts else None

    def _misread(self, name: str) -> str:
        """Return another name with the same verb, of the same split: training never sees held-out names."""
        verb, noun = name.split("_")
        heldout = is_heldout_name(verb, noun)
        others = [other for other in NOUNS if other != noun and is_heldout_name(verb, other) == heldout]
        return f"{verb}_{self._chance.choice(others or [noun])}"

    def _find(self, called: str) -> Generator[ToolCall, Observation, tuple[str, str] | None]:
        """Search for the definition, by way of an alias where the name is one; returns path and name."""
        if self._likely(self._habits.slips):
            yield ToolCall("", "search", {"query": self._misread(called), "kind": "definition"})
        for _ in range(2):
            shown = yield ToolCall("", "search", {"query": called, "kind": "definition"})
            for path, name in _DEFINITION.findall(shown.text):
                if name == called:
                    return path, name
            mentioned = yield ToolCall("", "search", {"query": called})
            names = [name for name, alias in _ALIAS.findall(mentioned.text) if alias == called]
            if not names:
                return None
            called = names[0]
        return None

    def _ask(self, name: str) -> Generator[ToolCall, Observation, list[str]]:
        """Look for pull requests about a name; read one whose title promises more. Returns facts."""
        shown = yield ToolCall("", "prs", {"search": name})
        for row in shown.text.split("\n"):
            key, _, title = row.partition(" ")
            if name not in title:
                continue
            if found := _FACT.search(title):
                return [found[0]]
            if "rule" in title:
                whole = yield ToolCall("", "prs", {"read": key.lstrip("#")})
                return [found[0] for found in [_FACT.search(whole.text)] if found]
        return []

    def _likely(self, probability: float) -> bool:
        return self._chance.random() < probability


@dataclass(frozen=True)
class _Place:
    """The line to mend: its number, its text, and what stands around it."""

    number: int
    line: str
    parameters: tuple[str, ...]
    docstring: str


def _named(instruction: str) -> list[str]:
    """Names of functions in an instruction: those of failing tests, or those that it speaks of."""
    tests = re.findall(r"::(test_\w+)", instruction)
    return tests or _NAME.findall(instruction)


def _unnumbered(shown: str) -> list[str]:
    """Return the lines of a whole file that was viewed."""
    return [line.partition("\t")[2] for line in shown.split("\n")]


def _return_of(lines: Sequence[str], name: str) -> _Place | None:
    """Find the `return` line of a function in a viewed file."""
    head = next((n for n, line in enumerate(lines) if line.startswith(f"def {name}(")), None)
    if head is None:
        return None
    parameters = tuple(lines[head].partition("(")[2].partition(")")[0].split(", "))
    for number in range(head + 1, min(head + 3, len(lines))):
        if lines[number].startswith("    return "):
            docstring = lines[number - 1].strip(' "') if number == head + 2 else ""
            return _Place(number + 1, lines[number], parameters, docstring)
    return None


def _guesses(place: _Place) -> Iterator[tuple[float, str]]:
    """Yield every change of one token that looks plausible, with its weight."""
    line = place.line
    used = set(_TOKEN.findall(line))
    for token in _TOKEN.finditer(line, len("    return")):
        text = token[0]
        if text in _OPERATORS:
            yield from ((1.0, _put(line, token, other)) for other in _OPERATORS if other != text)
        elif text in _COMPARISONS:
            yield from ((4.0, _put(line, token, other)) for other in _COMPARISONS if other != text)
        elif text in ("min", "max"):
            yield 1.5, _put(line, token, "max" if text == "min" else "min")
        elif text.isdigit():
            yield from ((1.5, _put(line, token, str(int(text) + step))) for step in (-1, 1))
        elif text in place.parameters:
            for other in place.parameters:
                if other != text and other not in used:
                    yield 12.0, _put(line, token, other)
        elif line[token.end() :].startswith("("):
            a, b = place.parameters
            yield (
                6.0,
                line.replace(f"({a}, {b})", "(?)")
                .replace(f"({b}, {a})", f"({a}, {b})")
                .replace("(?)", f"({b}, {a})"),
            )


def _same_place(line: str, one: str, other: str) -> bool:
    """Whether two fixes of a line change the same token of it."""
    tokens = _TOKEN.findall(line)
    first, second = (
        [a != b for a, b in zip(tokens, _TOKEN.findall(fix), strict=True)] for fix in (one, other)
    )
    return first == second


def _as_stated(line: str, fact: str) -> Iterator[str]:
    """Yield the changes that a pull request's sentence may mean: `must use 17`, `must multiply by`."""
    found = _FACT.fullmatch(fact)
    assert found is not None, "facts are cut out by this pattern"
    for token in _TOKEN.finditer(line, len("    return")):
        if found["figure"] and token[0].isdigit():
            yield _put(line, token, found["figure"])
        elif found["operation"] and token[0] in _OPERATORS:
            yield _put(line, token, _OPERATIONS[found["operation"].split()[0]])


def _as_documented(place: _Place) -> Iterator[str]:
    """Yield the changes of one sign or pick after which the line has those that the docstring names."""
    words = place.docstring.replace(",", "").replace(".", "").split()
    wanted = sorted(_OPERATIONS[word] for word in words if word in _OPERATIONS)
    pick = {"smaller": "min", "larger": "max"}.get(next((w for w in words if w in ("smaller", "larger")), ""))
    for token in _TOKEN.finditer(place.line, len("    return")):
        if token[0] in ("min", "max") and pick and token[0] != pick:
            yield _put(place.line, token, pick)
        elif token[0] in _OPERATORS:
            for other in _OPERATORS:
                new = _put(place.line, token, other)
                signs = sorted(
                    sign for sign in _TOKEN.findall(new[len("    return") :]) if sign in _OPERATORS
                )
                if other != token[0] and signs == wanted:
                    yield new


def _put(line: str, token: re.Match[str], new: str) -> str:
    return line[: token.start()] + new + line[token.end() :]
