"""A task's words: what its author wrote, without what gives the fix away."""

from __future__ import annotations

import pytest

from envs.register.history.fixes import split
from envs.register.history.statements import Words, clean, write_statement
from envs.tasksets.trees import TreeFile
from envs.testing.run import Failure, StackFrame

BASE = {
    "lib.py": TreeFile(b"def limit(values):\n    return values[:10]\n"),
    "tests/test_lib.py": TreeFile(b"def test_old():\n    pass\n"),
}
AFTER = BASE | {
    "lib.py": TreeFile(b"def limit(values, ceiling=10):\n    return values[: max(ceiling, 0)]\n"),
    "tests/test_lib.py": TreeFile(b"def test_new():\n    assert limit([1], ceiling=-1) == []\n"),
}
FIX = split(BASE, AFTER)
FAILURES = {
    "tests/test_lib.py::test_new": Failure(
        "TypeError",
        "limit() got an unexpected keyword argument",
        (StackFrame("tests/test_lib.py", 2, "test_new"), StackFrame("lib.py", 1, "limit")),
    )
}

BODY = """Negative ceilings cut from the end, which surprised us (see #7 and #99).

Fixes #12. Closes owner/repo#13
<!-- please tick the boxes -->
- [x] tests added

Started in 1f2e3d4c5b, discussed at https://example.org/owner/repo/pull/14/files.

```python
limit([1, 2, 3], -1)
```

```diff
-    return values[:10]
+    return values[: max(ceiling, 0)]
```

    return values[: max(ceiling, 0)]

Signed-off-by: Ada <ada@example.org>
"""


def test_a_description_keeps_what_it_describes_and_loses_what_tells_the_fix() -> None:
    text = write_statement(Words("Honour negative ceilings (#14)", BODY), FIX, {}, past={"7"})
    assert text.startswith("Honour negative ceilings\n\nNegative ceilings cut from the end")
    assert "#7" in text, "what may be read may be named"
    assert "limit([1, 2, 3], -1)" in text, "an example is no fix"
    for secret in (
        "#12",
        "#13",
        "#14",
        "#99",
        "1f2e3d4c5b",
        "http",
        "max(ceiling",
        "values[:",
        "Signed",
        "tick",
    ):
        assert secret not in text, secret


def test_a_poor_description_is_helped_by_what_failed_without_the_tests_own_lines() -> None:
    text = write_statement(Words("Fix it"), FIX, FAILURES, past=())
    assert "test_new: TypeError: limit() got an unexpected keyword argument\n  lib.py:1 in limit" in text
    assert "tests/test_lib.py" not in text


def test_names_nobody_could_guess_are_told() -> None:
    text = write_statement(Words("Honour negative ceilings"), FIX, FAILURES, past=())
    assert text.endswith("Names that its tests use and that do not exist yet: ceiling.")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Merge branch 'fix' into main", ""),
        ("[the patch](https://example.org/x) helps", "the patch helps"),
        (
            "deadbeef is a word, 0123456789 a number, deadbee1 a commit",
            "deadbeef is a word, 0123456789 a number,  a commit",
        ),
        ("colour #fff stays, GH-5 goes", "colour #fff stays, goes"),
        ("See merge request group/project!5", ""),
    ],
)
def test_small_things_are_cleaned(text: str, left: str) -> None:
    assert clean(text, FIX, past=()) == left


def test_a_very_long_description_is_cut_at_a_line() -> None:
    text = write_statement(Words("Long", "word " * 10 + "\n" + "and more of it\n" * 2000), FIX, {}, past=())
    assert len(text) < 6_100
    assert text.endswith("\n(cut)")
