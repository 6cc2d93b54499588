"""The teacher: the smallest edit that means the same, after a look at its place."""

import random

import pytest

from agents.policies.demonstrator import CONTEXT_LINES, show_edit, smallest
from envs.types import ToolCall


@pytest.mark.parametrize(
    ("old", "new", "narrowed"),
    [
        ("    return a - b", "    return a + b", ("-", "+")),
        ("if low <= x < high:", "if low <= x <= high:", ("< high", "<= high")),
        ("a - b - c", "a + b - c", ("- b", "+ b")),
        ("same(a, b)", "same(b, a)", ("a, b", "b, a")),
    ],
)
def test_an_edit_shrinks_until_its_text_would_no_longer_be_unique(old, new, narrowed) -> None:
    edit = smallest({"path": "a.py", "old": old, "new": new, "line": 3})
    assert (edit["old"], edit["new"]) == narrowed
    assert old.count(narrowed[0]) == 1 and old.replace(*narrowed) == new


def test_edits_of_several_lines_stay_as_they_are() -> None:
    edit = {"path": "a.py", "old": "a\nb", "new": "a\nc", "line": 3}
    assert smallest(edit) == edit


def test_the_place_is_looked_at_before_it_is_changed() -> None:
    edit = ToolCall("", "edit", {"path": "a.py", "old": "a < b", "new": "a > b", "line": 20})
    for seed in range(20):
        view, change = show_edit(edit, random.Random(seed))
        assert view.arguments["start"] < 20 <= view.arguments["end"]
        assert view.arguments["end"] - view.arguments["start"] == CONTEXT_LINES
        assert change.arguments["line"] == 20
