"""`view` and `edit` on files with line ends and encodings of any kind."""

from __future__ import annotations

import pytest

from envs.tasksets.taskset import TaskSet
from envs.tools.base import ToolContext, ToolError
from envs.tools.files import Edit, View
from sandboxes import SandboxSpec
from sandboxes.fake import FakeBackend

CRLF = b"a\r\nb\r\n\r\nb\r\nlast"


@pytest.fixture
def at(calculator: TaskSet) -> ToolContext:
    sandbox = FakeBackend().open(SandboxSpec("any"), timeout_s=1)
    return ToolContext(sandbox, calculator, calculator.tasks[0])


def edited(at: ToolContext, data: bytes, **arguments) -> bytes:
    at.sandbox.write("f.txt", data, timeout_s=1)
    Edit(path="f.txt", **arguments).run(at)
    return at.sandbox.read("f.txt", timeout_s=1)


def test_a_view_shows_no_line_ends_and_says_which_there_are(at: ToolContext) -> None:
    at.sandbox.write("f.txt", CRLF, timeout_s=1)
    assert View(path="f.txt").run(at) == (
        "1\ta\n2\tb\n3\t\n4\tb\n5\tlast\n(lines of this file end in CRLF, which edit keeps)"
    )
    assert View(path="f.txt", start=5).run(at) == "5\tlast"


@pytest.mark.parametrize(
    ("arguments", "after"),
    [
        ({"old": "a\nb", "new": "a\nc\nd"}, b"a\r\nc\r\nd\r\n\r\nb\r\nlast"),
        ({"old": "\nb\nlast", "new": "\nlast"}, b"a\r\nb\r\n\r\nlast"),
        ({"old": "last", "new": "one\ntwo"}, CRLF[:-4] + b"one\r\ntwo"),
        ({"old": "\n\n", "new": "\n"}, b"a\r\nb\r\nb\r\nlast"),
        ({"old": "a\r\n", "new": "a\n"}, CRLF.replace(b"a\r", b"a")),
        ({"insert_line": 0, "new": "top"}, b"top\r\n" + CRLF),
        ({"insert_line": 2, "new": "x\ny"}, CRLF.replace(b"b\r\n\r", b"b\r\nx\r\ny\r\n\r")),
        ({"insert_line": 5, "new": "end"}, CRLF + b"\r\nend\r\n"),
    ],
)
def test_edits_match_whatever_the_line_ends_and_keep_them(
    at: ToolContext, arguments: dict, after: bytes
) -> None:
    assert edited(at, CRLF, **arguments) == after
    if b"a\n" not in after:
        assert edited(at, CRLF.replace(b"\r", b""), **arguments) == after.replace(b"\r", b"")


def test_a_line_end_is_one_place_and_a_mixed_file_keeps_its_mixture(at: ToolContext) -> None:
    with pytest.raises(ToolError, match="old occurs 4 times"):
        edited(at, CRLF, old="\n", new="")
    assert edited(at, b"a\nb\r\nc\n", old="b\nc", new="b\nx\nc") == b"a\nb\r\nx\r\nc\n"
    assert edited(at, b"a\nb\r\nc\n", old="a\nb", new="a\nx\nb") == b"a\nx\nb\r\nc\n"
    assert edited(at, b"a\rb\n", old="a\rb", new="a\rc") == b"a\rc\n"


def test_who_edits_what_is_not_graded_is_told(at: ToolContext) -> None:
    def told(path: str) -> str:
        return Edit(path=path, new="x\n", create=True).run(at)

    assert "would stand in for a module" in told("json.py")
    assert "outside the repository" in told("/tmp/x.py") and "outside the repository" in told("../tmp/y.py")
    assert "caches are not graded" in told("__pycache__/x.py")
    assert "path is too long" in told("/".join(["d" * 200] * 6))
    assert told(f"{at.task.workdir}/fine.py") == f"made {at.task.workdir}/fine.py"


def test_bytes_beside_an_edit_stay_and_a_mixture_of_encodings_is_told(at: ToolContext) -> None:
    assert edited(at, b"# caf\xe9\nx = 1\n", old="x = 1", new="x = 2") == b"# caf\xe9\nx = 2\n"
    assert "not UTF-8, and what you wrote is" in Edit(path="f.txt", old="2", new="é").run(at)
    assert "UTF-8" not in Edit(path="f.txt", old="é", new="3").run(at)
