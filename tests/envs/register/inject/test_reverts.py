"""A hunk of a past change is taken back exactly, or not at all."""

from __future__ import annotations

import pytest

from envs.register.inject.bugs import REVERT
from envs.register.inject.reverts import find_reverts, read_hunks
from envs.tasksets.taskset import PullRequest
from envs.tasksets.trees import Tree, TreeFile, apply_patch, diff_trees

OLD = '''"""Words."""

import re


def shorten(text, width):
    return text[:width]


def count(text):
    """How many."""
    words = text.split()
    return len(words)


def last(text):
    return text.split()[-1]
'''
NEW = OLD.replace(
    "    return text[:width]\n",
    '    if len(text) <= width:\n        return text\n    return text[: width - 1] + "~"\n',
).replace("return text.split()[-1]", 'return (text.split() or [""])[-1]')


def tree(text: str) -> Tree:
    return {"words.py": TreeFile(text.encode()), "notes.md": TreeFile(text.encode())}


def change(before: str, after: str) -> PullRequest:
    return PullRequest("12", "Mend", "2026-01-01T00:00:00Z", diff=diff_trees(tree(before), tree(after)))


def test_each_hunk_that_still_stands_is_a_bug_in_its_function():
    found = find_reverts(tree(NEW), ["words.py"], [change(OLD, NEW)])
    assert [(bug.kind, bug.path, bug.function, bug.keys) for bug in found] == [
        (REVERT, "words.py", "shorten", ("12",)),
        (REVERT, "words.py", "last", ("12",)),
    ]
    assert found[0].line == 7
    both = tree(NEW)
    for bug in reversed(found):
        assert len(bug.edits) == 1
        both |= bug.files(both)
    assert both["words.py"].data.decode() == OLD


def test_what_is_taken_back_is_what_git_would_take_back():
    pr = change(OLD, NEW)
    hunks = [hunk for hunk in read_hunks(pr.diff) if hunk.path == "words.py"]
    assert len(hunks) == 2
    assert all(hunk.after in NEW.encode() and hunk.before in OLD.encode() for hunk in hunks)
    assert apply_patch(tree(OLD), pr.diff) == tree(NEW)


@pytest.mark.parametrize(
    ("before", "after", "now"),
    [
        (OLD, NEW, NEW.replace('"~"', '"…"').replace('[""]', "[None]")),
        (OLD, OLD.replace("import re", "import os"), OLD.replace("import re", "import os")),
        (OLD, OLD.replace("How many.", "The number."), OLD.replace("How many.", "The number.")),
        (OLD, OLD + "\n\ndef first(text):\n    return text.split()[0]\n", None),
        (OLD.replace("def count(text)", "def counted(text)"), OLD, None),
        (OLD.replace("return len(words)", "return len(words"), OLD, None),
    ],
    ids=["moved on", "outside functions", "docstring", "added function", "renamed function", "no program"],
)
def test_what_is_no_bug_in_one_function_stays(before: str, after: str, now: str | None):
    assert find_reverts(tree(now or after), ["words.py"], [change(before, after)]) == []


def test_text_that_stands_twice_is_not_guessed_at():
    before, after = "def f(a):\n    return a\n", "def f(a):\n    return -a\n"
    twice = f"{after}\n\nif True:\n    pass\n{after}"
    assert find_reverts(tree(twice), ["words.py"], [change(before, after)]) == []


def test_lines_that_look_like_headers_and_a_missing_last_line_end_are_text():
    before = "def f(a):\n    b = '''\n-- a\n++ b\n@@ -1 +1 @@\n'''\n    return a"
    after = before.replace("-- a\n++ b\n", "").replace("return a", "return a + b")
    found = find_reverts(tree(after + "\n"), ["words.py"], [change(before + "\n", after + "\n")])
    assert [bug.files(tree(after + "\n"))["words.py"].data.decode() for bug in found] == [before + "\n"]
    assert list(read_hunks(change(before, after).diff))[1].after.decode().rstrip("\n") in after
