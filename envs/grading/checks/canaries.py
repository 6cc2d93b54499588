"""Tests of ours among the project's, whose outcomes are known: most of them must fail.

Names and values are drawn anew for every run, and the files lie in the folders of the trusted tests,
collected before, after and, where there are several, between them. They import what those import, and some
name what is the project's, so that neither their source nor how they fail tells them apart. Whatever makes
tests pass, skips their lines, or reports in their place, does it to these too. A kind of canary that the
reference's run does not bear either, because of a project's settings say, is no evidence, so each complaint
names its kind.
"""

from __future__ import annotations

import posixpath
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from envs.tasksets.trees import Tree, TreeFile
from envs.testing.run import RunReport

from .likeness import leading_imports

RUNNERS = frozenset({"pytest", "unittest"})
"""Test programs that canaries can be written for. A `junit` command is a program of any language."""


@dataclass(frozen=True)
class Canary:
    """One test and what must become of it."""

    kind: str
    """The same words in every run."""
    outcome: str
    error: str = ""
    """Name of the exception's type; empty where there must be none."""
    says: str = ""
    """Part of the exception's message."""


@dataclass(frozen=True)
class Canaries:
    """What is laid beside the trusted tests for one run."""

    files: Tree
    tests: Mapping[str, Canary]
    targets: tuple[str, ...]
    """The run's targets with the canaries' files among them."""

    def complaints(self, report: RunReport) -> tuple[str, ...]:
        """Say, by kind, which did not end as they must."""
        said = {
            f"a canary with {canary.kind} {_wrong(canary, report, test)}"
            for test, canary in self.tests.items()
        }
        return tuple(sorted(line for line in said if not line.endswith(" ")))

    def without(self, report: RunReport) -> frozenset[str]:
        """The ids of a run that are not canaries."""
        return frozenset(report.outcomes) - frozenset(self.tests)


def _wrong(canary: Canary, report: RunReport, test: str) -> str:
    """What happened instead, in words that are the same in every run; empty when nothing did."""
    outcome, failure = report.outcomes.get(test, "missing"), report.failures.get(test)
    if outcome != canary.outcome:
        return f"is {outcome}, not {canary.outcome}"
    if canary.error and (
        failure is None or failure.error != canary.error or canary.says not in failure.message
    ):
        return "failed for another reason than its own"
    return ""


NO_CANARIES = Canaries({}, {}, ())


def plant(runner: str, targets: Sequence[str], taken: Tree, draw: random.Random) -> Canaries:
    """Make canaries for one run of these test files; none for a runner they cannot be written for."""
    asked = [target for target in targets if target.partition("::")[0].endswith(".py")]
    places = [target.partition("::")[0] for target in asked]
    if runner not in RUNNERS or not places:
        return NO_CANARIES
    files: Tree = {}
    tests: dict[str, Canary] = {}
    planted: list[str] = []
    # Only a class can be unittest's, maybe by a base from elsewhere; an unknown file may hold anything.
    classes = any(path not in taken or b"class " in taken[path].data for path in places)
    sorts = _sorts(runner, draw, unittest=classes)
    middle = draw.randrange(len(places))
    neighbours = [places[0], places[-1], *(places[middle : middle + 1] if len(places) > 1 else ())]
    for number, beside in enumerate(neighbours):
        path = _fresh(posixpath.dirname(beside), {*taken, *files}, draw)
        imports, mine = leading_imports(beside, taken), sorts[number :: len(neighbours)]
        if imports.of_project:
            mine.append(_of_project(runner, draw.choice(imports.of_project), draw))
        draw.shuffle(mine)
        files[path] = TreeFile(_file(imports.lines, [source for source, _ in mine]).encode())
        tests |= {f"{path}::{name}": canary for _, found in mine for name, canary in found.items()}
        planted.append(path)
    first, last, *between = planted
    place = targets.index(asked[middle]) + 1
    return Canaries(files, tests, (first, *targets[:place], *between, *targets[place:], last))


def _fresh(folder: str, taken: set[str], draw: random.Random) -> str:
    while True:
        path = posixpath.join(folder, f"test_{draw.choice(_NOUNS)}_{_word(draw)}.py")
        if path not in taken:
            return path


_NOUNS = (
    "parsing",
    "limits",
    "order",
    "edges",
    "values",
    "cases",
    "errors",
    "defaults",
    "options",
    "rounding",
)
_Sort = tuple[str, dict[str, Canary]]
"""Source of a few tests, and what is expected of each by the end of its id."""


def _word(draw: random.Random) -> str:
    return "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(4, 7)))


def _file(imports: Sequence[str], sources: Sequence[str]) -> str:
    needed = [
        f"import {name}" for name in ("pytest", "unittest") if any(f"{name}." in text for text in sources)
    ]
    return "\n".join(dict.fromkeys((*imports, *needed))) + "\n\n\n" + "\n\n\n".join(sources) + "\n"


def _sorts(runner: str, draw: random.Random, *, unittest: bool) -> list[_Sort]:
    """Every kind once, in an order of this run; unittest's only where the listed tests may be of it."""
    makers = [_unittest_equal, _unittest_error, _unittest_set_up] if unittest or runner == "unittest" else []
    if runner == "pytest":
        makers += [_equal, _contains, _truth, _not_raised, _raised, _fixture, _skipped, _expected]
    made = [make(draw) for make in makers]
    draw.shuffle(made)
    return made


def _of_project(runner: str, thing: str, draw: random.Random) -> _Sort:
    name, value = _word(draw), draw.randrange(1000)
    other, kind = value + draw.randrange(1, 9), _word(draw).title()
    canary = Canary("a value of the project among others", "failed", "AssertionError")
    if runner == "unittest":
        source = (
            f"class Test{kind}(unittest.TestCase):\n"
            f"    def test_{name}(self):\n        self.assertEqual([{thing}, {value}], [{thing}, {other}])"
        )
        return source, {f"Test{kind}::test_{name}": canary}
    source = f"def test_{name}():\n    found = [{thing}, {value}]\n    assert found == [{thing}, {other}]"
    return source, {f"test_{name}": canary}


def _equal(draw: random.Random) -> _Sort:
    a, b, name = draw.randrange(1000), draw.randrange(1000, 2000), _word(draw)
    wrong = b - a + draw.randrange(1, 9)
    source = f"def test_{name}():\n    assert {a} + {b} == {a + b}\n    assert {b} - {a} == {wrong}"
    passing = f"def test_{name}_too():\n    assert {a} + {b} == {a + b}"
    return f"{source}\n\n\n{passing}", {
        f"test_{name}": Canary("an equation that does not hold", "failed", "AssertionError"),
        f"test_{name}_too": Canary("an equation that holds", "passed"),
    }


def _contains(draw: random.Random) -> _Sort:
    name, one, other = _word(draw), _word(draw), _word(draw) + "ß"
    source = f'def test_{name}():\n    words = ["{one}", "{one}s"]\n    assert "{other}" in words'
    return source, {f"test_{name}": Canary("a word that is not in a list", "failed", "AssertionError")}


def _truth(draw: random.Random) -> _Sort:
    name, value = _word(draw), draw.randrange(1000)
    source = f"def test_{name}():\n    found = [{value}]\n    found.clear()\n    assert found"
    return source, {f"test_{name}": Canary("an empty list that must not be", "failed", "AssertionError")}


def _not_raised(draw: random.Random) -> _Sort:
    name, value = _word(draw), draw.randrange(1000)
    source = f"def test_{name}():\n    with pytest.raises(ValueError):\n        int('{value}')"
    return source, {
        f"test_{name}": Canary("an exception that does not come", "failed", "Failed", "DID NOT RAISE")
    }


def _raised(draw: random.Random) -> _Sort:
    name, error, said = _word(draw), _word(draw).title() + "Error", _word(draw)
    source = (
        f"class {error}(Exception):\n    pass\n\n\n"
        f"def test_{name}():\n    def inner():\n        raise {error}('{said}')\n\n    inner()"
    )
    return source, {f"test_{name}": Canary("an exception of its own", "failed", error, said)}


def _fixture(draw: random.Random) -> _Sort:
    name, given, said = _word(draw), _word(draw), _word(draw)
    source = (
        f"@pytest.fixture\ndef {given}_of_this():\n    raise LookupError('{said}')\n\n\n"
        f"def test_{name}({given}_of_this):\n    assert True"
    )
    return source, {f"test_{name}": Canary("a fixture that breaks", "error", "LookupError", said)}


def _skipped(draw: random.Random) -> _Sort:
    name = _word(draw)
    source = f"def test_{name}():\n    pytest.skip('{_word(draw)}')"
    return source, {f"test_{name}": Canary("a reason to skip it", "skipped")}


def _expected(draw: random.Random) -> _Sort:
    name, value = _word(draw), draw.randrange(1000)
    source = f"@pytest.mark.xfail\ndef test_{name}():\n    assert {value} > {value}"
    return source, {f"test_{name}": Canary("a failure that is expected", "xfailed")}


def _unittest_equal(draw: random.Random) -> _Sort:
    name, kind, value = _word(draw), _word(draw).title(), draw.randrange(1000)
    other = value + draw.randrange(1, 9)
    source = (
        f"class Test{kind}(unittest.TestCase):\n"
        f"    def test_{name}(self):\n        self.assertEqual([{value}], [{other}])\n\n"
        f"    def test_{name}_too(self):\n        self.assertEqual([{value}], [{value}])"
    )
    return source, {
        f"Test{kind}::test_{name}": Canary("an assertEqual that does not hold", "failed", "AssertionError"),
        f"Test{kind}::test_{name}_too": Canary("an assertEqual that holds", "passed"),
    }


def _unittest_error(draw: random.Random) -> _Sort:
    name, kind, said = _word(draw), _word(draw).title(), _word(draw)
    source = (
        f"class Test{kind}(unittest.TestCase):\n"
        f"    def test_{name}(self):\n        with self.assertRaises(KeyError):\n"
        f"            raise LookupError('{said}')"
    )
    expected = Canary("an exception of another type", "failed", "LookupError", said)
    return source, {f"Test{kind}::test_{name}": expected}


def _unittest_set_up(draw: random.Random) -> _Sort:
    name, kind, said = _word(draw), _word(draw).title(), _word(draw)
    source = (
        f"class Test{kind}(unittest.TestCase):\n"
        f"    def setUp(self):\n        raise OSError('{said}')\n\n"
        f"    def test_{name}(self):\n        self.assertTrue(True)"
    )
    return source, {f"Test{kind}::test_{name}": Canary("a setUp that breaks", "failed", "OSError", said)}
