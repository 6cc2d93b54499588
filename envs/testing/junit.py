"""Read JUnit XML, the format that most test programs can write, into test ids and outcomes.

There is no standard; this reads the common part of the schemas of Ant, Jenkins and Maven Surefire, as test
programs fill it. An id is `file::classname::name`, without the parts that a report lacks. Unclear cases do
not pass: an unknown status, a test repeated until it passed, a torn report, or a report that declares a
document type or entities (which could make it expand without end). Reports are parsed by the standard
library's expat, up to a size limit.

**Weaker evidence than ids over a descriptor**: the process that runs the tests writes the report, so code
under test could write it too. Prefer pytest or unittest where a project has them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from xml.parsers import expat

LIMIT_BYTES = 16 << 20
_DEPTH = 50
_MESSAGE = 1000

_RAN = frozenset({"", "run", "pass", "passed", "success", "successful", "ok", "completed", "executed"})
_NOT_RUN = frozenset({"notrun", "disabled", "skipped", "skip", "ignored", "pending", "suppressed"})
_PLACE = re.compile(r"(.+\.\w+):\d+")
_NOT_TEXT = re.compile(
    rb"[\x00-\x08\x0b\x0c\x0e-\x1f]|&#(?:0*(?:[0-8]|1[124-9]|2\d|3[01])|[xX]0*(?:[0-8bcefBCEF]|1[\da-fA-F]));"
)
"""Control characters, such as colour codes, that some programs write and no XML may contain."""


class JunitError(Exception):
    """A report that cannot be relied on. Takes one sentence."""


@dataclass
class Case:
    """One `testcase`: its id, outcome, and the message of a failure."""

    id: str
    outcome: str = "passed"
    error: str = ""
    message: str = ""


@dataclass(frozen=True)
class JunitReport:
    cases: tuple[Case, ...]
    """In the report's order; an id may come more than once."""
    suite_errors: dict[str, str]
    """Failures outside any test, by the suite's name."""


def read_junit(document: bytes, root: str, file: str = "") -> JunitReport:
    """Read one report. Raises JunitError.

    File names are made relative to `root`; `file` is the test file where the report names none.
    """
    if len(document) > LIMIT_BYTES:
        raise JunitError(f"the report is larger than {LIMIT_BYTES >> 20} MiB")
    if not document.startswith((b"\xff\xfe", b"\xfe\xff")):
        document = _NOT_TEXT.sub(b"?", document)
    reader = _Reader(root.rstrip("/") + "/", file)
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = _refuse
    try:
        parser.Parse(document, True)
    except expat.ExpatError as error:
        raise JunitError(f"the report is not well-formed XML: {error}") from None
    except (LookupError, ValueError) as error:  # an encoding that Python does not know
        raise JunitError(f"the report cannot be read: {error}") from None
    return JunitReport(tuple(reader.cases), reader.suite_errors)


def _refuse(*_: object) -> None:
    raise JunitError("the report declares a document type or entities, which no test program needs to")


@dataclass
class _Reader:
    root: str
    default_file: str
    cases: list[Case] = field(default_factory=list)
    suite_errors: dict[str, str] = field(default_factory=dict)
    open: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    case: Case | None = None
    failure_text: str | None = None
    """Text inside a failure element; None outside of one."""

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition(" ")[2].lower()
        if not self.open and name not in ("testsuites", "testsuite"):
            raise JunitError(f"this is not a JUnit report: it begins with <{name[:50]}>")
        if len(self.open) >= _DEPTH:
            raise JunitError("the report is nested too deeply")
        if name == "testcase":
            if self.case is not None:
                raise JunitError("the report has a testcase inside another")
            self.case = Case(self._id(attributes), _status(attributes))
        elif self.case is not None and self.open[-1][0] == "testcase":
            self._note(name, attributes)
        elif name in ("error", "failure") and self.open[-1][0].startswith("testsuite"):
            self.failure_text = ""
        self.open.append((name, attributes))

    def _note(self, name: str, attributes: dict[str, str]) -> None:
        """Record an element inside a testcase; the worst one decides."""
        assert self.case is not None
        outcome = _outcome(name)
        if _RANK.index(outcome) > _RANK.index(self.case.outcome):
            self.case.outcome = outcome
            self.case.error = attributes.get("type", "")[:_MESSAGE]
            self.case.message = attributes.get("message", "")[:_MESSAGE]
            self.failure_text = ""

    def text(self, data: str) -> None:
        if self.failure_text is not None and len(self.failure_text) < _MESSAGE:
            self.failure_text += data

    def end(self, _tag: str) -> None:
        name, attributes = self.open.pop()
        if name == "testcase":
            assert self.case is not None
            self.cases.append(self.case)
            self.case = self.failure_text = None
        elif self.failure_text is not None and self.open and self.open[-1][0].startswith("test"):
            text = self.failure_text.strip()[:_MESSAGE]
            if self.case is None:
                suite = self.open[-1][1].get("name", "") or "suite"
                self.suite_errors[suite] = attributes.get("message", "")[:_MESSAGE] or text
            else:
                self.case.message = self.case.message or text
            self.failure_text = None

    def _id(self, attributes: dict[str, str]) -> str:
        suites = [own for name, own in self.open if name == "testsuite"]
        files = [own.get("file") or own.get("filepath") or "" for own in (attributes, *reversed(suites))]
        where = attributes.get("classname", "")
        if place := _PLACE.fullmatch(where):  # busted writes FILE:LINE there
            where, files = "", [place[1]]
        elif where in ("", "test"):  # Node's own reporter writes this word there; suites are its `describe`s
            where = "::".join(filter(None, (suite.get("name", "") for suite in suites)))
        file = next(filter(None, files), "").removeprefix("file://").removeprefix(self.root)
        file = str(PurePosixPath(file)) if file else self.default_file
        name = attributes.get("name", "").removeprefix(self.root)  # Node names a file that cannot be loaded
        return "::".join(filter(None, (file, where, name)))


_RANK = ("passed", "skipped", "duplicate", "failed", "error")


def _outcome(name: str) -> str:
    """Return the outcome that an element inside a testcase stands for."""
    if name in ("skipped", "error"):
        return name
    if name.startswith(("flaky", "rerun")):
        return "duplicate"
    if "fail" in name or "error" in name:
        return "failed"
    return "skipped" if "skip" in name else "passed"


def _status(attributes: dict[str, str]) -> str:
    """Return the outcome by a testcase's attributes, which most programs do not write."""
    values = [attributes.get(name, "").strip().lower() for name in ("status", "result")]
    if all(word in _RAN for word in values):
        return "passed"
    return "skipped" if any(word in _NOT_RUN for word in values) else "failed"
