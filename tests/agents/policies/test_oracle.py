"""A patch as tool calls: made in order, they give the patched file."""

import difflib
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.policies.oracle import patch_calls
from agents.types import PolicyError


def make_edit(text, arguments):
    """The `edit` tool's contract, on a string."""
    if "insert_line" in arguments:
        lines = text.split("\n")
        lines = [line + "\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
        at = arguments["insert_line"]
        assert at <= len(lines)
        return "".join([*lines[:at], arguments["new"], *lines[at:]])
    old, line = arguments["old"], arguments["line"]
    starts = [i for i in range(len(text)) if text.startswith(old, i)]
    starts = [start for start in starts if text.count("\n", 0, start) + 1 == line]
    assert old and old != arguments["new"] and len(starts) == 1
    return text[: starts[0]] + arguments["new"] + text[starts[0] + len(old) :]


def diff(before, after, context):
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), "a/f.py", "b/f.py", n=context
    )
    return "".join(
        line if line.endswith("\n") else line + "\n\\ No newline at end of file\n" for line in lines
    )


file_text = st.tuples(
    st.lists(
        st.sampled_from(["a", "b", "", "  x = 1", "--- a", "+++ b", "@@ -1 +1 @@", "\\ No"]), max_size=12
    ),
    st.booleans(),
).map(lambda parts: "\n".join(parts[0]) + ("\n" if parts[1] and parts[0] else ""))


@settings(max_examples=300, deadline=None)
@given(before=file_text, after=file_text, context=st.integers(0, 3))
def test_the_calls_make_the_change_of_the_patch(before, after, context):
    text = before
    for call in patch_calls(diff(before, after, context)):
        assert call.name == "edit" and call.arguments["path"] == "f.py"
        text = make_edit(text, call.arguments)
    assert text == after


def test_new_files_are_created_and_old_ones_removed():
    patch = (
        "diff --git a/new.py b/new.py\nnew file mode 100644\n--- /dev/null\n+++ b/new.py\n"
        "@@ -0,0 +1,2 @@\n+one\n+two\n"
        "diff --git a/it's old.py b/it's old.py\ndeleted file mode 100644\n"
        "--- a/it's old.py\t\n+++ /dev/null\n"
        "@@ -1 +0,0 @@\n-gone\n"
    )
    made, removed = patch_calls(patch)
    assert made.arguments == {"path": "new.py", "new": "one\ntwo\n", "create": True}
    assert removed.name == "shell"
    command = removed.arguments["command"].replace("rm --", "printf %s")
    printed = subprocess.run(["sh", "-c", command], capture_output=True, timeout=5, check=True).stdout
    assert printed == b"it's old.py"


def test_several_files_and_a_removed_line_that_looks_like_a_header():
    patch = (
        "--- a/one.sql\n+++ b/one.sql\n@@ -1,2 +1,2 @@\n--- old comment\n+-- new comment\n select\n"
        "--- a/two.py\n+++ b/two.py\n@@ -5,0 +6 @@\n+added\n"
    )
    one, two = patch_calls(patch)
    assert one.arguments == {"path": "one.sql", "old": "-- old comment", "new": "-- new comment", "line": 1}
    assert two.arguments == {"path": "two.py", "insert_line": 5, "new": "added\n"}


@pytest.mark.parametrize(
    "patch",
    [
        "--- a/x\n+++ b/y\n@@ -1 +1 @@\n-a\n+b\n",
        "diff --git a/x b/y\nsimilarity index 100%\nrename from x\nrename to y\n",
        "diff --git a/x b/x\nindex 1..2\nGIT binary patch\nliteral 3\n",
    ],
)
def test_what_no_tool_can_do_is_an_error_in_one_line(patch):
    with pytest.raises(PolicyError, match="reference patch") as caught:
        patch_calls(patch)
    assert "\n" not in str(caught.value)


def test_no_patch_is_no_calls():
    assert patch_calls("") == ()
