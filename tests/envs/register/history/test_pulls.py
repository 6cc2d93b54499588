"""Past changes as rows: what git alone knows, what an export adds, and what in it cannot be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from envs.register.errors import RegisterError
from envs.register.history.exports import read_exports
from envs.register.history.mainline import open_history
from envs.register.history.pulls import DIFF_CHARS, issues_of, past_changes


def pull(number: int, title: str, **fields: Any) -> dict[str, Any]:
    user = {"login": "ada-l"}
    known = {"number": number, "title": title, "body": "", "user": user, "labels": [{"name": "bug"}]}
    return (
        known | {"created_at": "2024-01-01T00:00:00Z", "merged_at": None, "merge_commit_sha": None} | fields
    )


def comment(number: int, text: str, at: str, kind: str = "issue") -> dict[str, Any]:
    where = f"https://api.forge.invalid/repos/a/b/{'issues' if kind == 'issue' else 'pulls'}/{number}"
    return {f"{kind}_url": where, "body": text, "created_at": at, "user": {"login": "bob"}}


def test_rows_follow_the_history_and_a_number_belongs_to_one_change(upstream: Any) -> None:
    upstream.commit("Mend what was seen (#3)", {"a.py": "a = 1\n"})
    upstream.branch("topic")
    upstream.commit("wip", {"a.py": "a = 2\n"})
    upstream.merge("topic", "Merge pull request #3 from ada/topic\n\nCount from two")
    upstream.commit("Directly", {"b.py": "b = 1\n"})
    with open_history(str(upstream.folder), timeout_s=30) as history:
        rows = past_changes(history)
    assert [(row.key, row.title) for row in rows] == [
        ("c1", "Mend what was seen"),
        ("3", "Count from two"),
        ("c3", "Directly"),
    ]
    assert rows[1].files == ("a.py",)
    assert "-a = 1\n+a = 2\n" in rows[1].diff
    assert "index " not in rows[1].diff, "ids of git's objects are nobody's business"


def test_a_long_diff_is_cut_at_a_line_and_says_so(upstream: Any) -> None:
    lines = "".join(f"ü{number}\n" for number in range(40_000))
    upstream.commit("Much", {"a.txt": "short\n", "b.txt": lines, "c.txt": "never seen\n"})
    with open_history(str(upstream.folder), timeout_s=30) as history:
        diff = past_changes(history)[0].diff
    assert len(diff) < DIFF_CHARS + 100
    *_, last, sentence = diff.splitlines()
    assert last.startswith("+ü")
    assert sentence.startswith("(cut: ")
    assert "never seen" not in diff


def test_an_export_adds_words_labels_and_the_discussion_of_the_issue(upstream: Any, tmp_path: Path) -> None:
    upstream.commit("Mend it (#5)", {"a.py": "a = 1\n"})
    rebased = upstream.commit("No number here", {"a.py": "a = 2\n"})
    folder = tmp_path / "export"
    folder.mkdir()
    pages = [pull(5, "Mend the counter", body="Fixes #4."), pull(6, "Two", merge_commit_sha=rebased)]
    (folder / "pulls.json").write_text(json.dumps(pages[:1]) + json.dumps(pages[1:]))  # pages, concatenated
    issues = [
        {**pull(4, "Counter is off", body="It says 0."), "created_at": "2023-12-30T01:00:00+01:00"},
        {**pull(5, "as an issue"), "pull_request": {}},
    ]
    for issue in issues:
        del issue["merged_at"], issue["merge_commit_sha"]
    (folder / "issues.json").write_text(json.dumps([issues]))  # pages, slurped
    said = [
        comment(4, "Same here", "2023-12-31T00:00:00Z"),
        comment(5, "Why not 1?", "2024-01-03T00:00:00Z", "pull_request") | {"path": "a.py"},
        comment(5, "Edited", "2024-01-02T00:00:00Z") | {"updated_at": "2024-02-02T00:00:00Z"},
    ]
    (folder / "comments.jsonl").write_text("".join(json.dumps(row) + "\n" for row in said))
    exports = read_exports([folder])
    with open_history(str(upstream.folder), timeout_s=30) as history:
        first, second = past_changes(history, exports)
        closed = issues_of(history, exports)
    assert not exports.notes
    assert (first.key, first.title, first.author, first.labels) == (
        "5",
        "Mend the counter",
        "ada-l",
        ("bug",),
    )
    assert [(entry.at, entry.text) for entry in first.discussion] == [
        ("2023-12-30T00:00:00Z", "Issue #4: Counter is off\n\nIt says 0."),
        ("2023-12-31T00:00:00Z", "Same here"),
        ("2024-01-03T00:00:00Z", "(on a.py) Why not 1?"),
        ("2024-02-02T00:00:00Z", "Edited"),
    ], "a comment counts from when it was last edited"
    assert (second.key, second.title) == ("6", "Two"), "found by the commit that merged it"
    assert [[issue.title for issue in group] for group in closed] == [["Counter is off"], []]


def test_what_cannot_be_read_in_an_export_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    rows = [json.dumps(pull(1, "Good", merge_commit_sha="0" * 40)), "{broken", json.dumps({"number": "x"})]
    rows += [
        json.dumps({"stars": 3}),
        "7",
        json.dumps(pull(2, "Also good \ud83d", merge_commit_sha="1" * 40)),
    ]
    rows += [
        json.dumps(comment(1, "When?", "yesterday")),
        json.dumps(comment(1, "x", "2024-01-01T00:00:00Z")),
    ]
    file = tmp_path / "mixed.jsonl"
    file.write_text("\n".join(rows))
    exports = read_exports([file])
    assert sorted(exports.pulls) == [1, 2]
    assert exports.pulls[2].title == "Also good ?"
    assert len(exports.comments[1]) == 1
    assert [note.split(": ")[0] for note in exports.notes] == [
        "mixed.jsonl, line 2",
        "mixed.jsonl, line 3",
        "mixed.jsonl, line 4",
        "mixed.jsonl, line 5",
        "mixed.jsonl, line 7",
    ]
    with pytest.raises(RegisterError, match="there is no file"):
        read_exports([tmp_path / "nothing.json"])
