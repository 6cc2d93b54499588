"""Who last changed each line: the same as git says, for histories with everything in them."""

from __future__ import annotations

import random
from typing import Any

from envs.register.history.authorship import lineage
from envs.register.history.mainline import History, open_history
from envs.tasksets.trees import Tree


def blamed(upstream: Any, commit: str, path: str) -> list[str]:
    """What git itself says: the commit of every line."""
    output = upstream.repo.git.blame(
        "--first-parent", "--root", "-s", "-l", "--abbrev=40", commit, "--", path
    )
    return [line[:40].lstrip("^") for line in output.split("\n")]


def agrees(upstream: Any, history: History) -> int:
    """Compare every line of every file of every base with git; return how many there were."""
    rows = lineage(history, [change.commit for change in history.changes])
    compared = 0
    for past, change in enumerate(history.changes, start=1):
        tree: Tree = history.tree(change.commit)
        for path, entry in tree.items():
            known = [
                row for row in rows if (row.path, row.sha256) == (path, entry.sha256) and row.since < past
            ]
            if not entry.data or b"\0" in entry.data:
                assert not known
                continue
            row = max(known, key=lambda state: state.since)
            found = [
                history.changes[row.change_of(line + 1) or 0].commit
                for line in range(entry.data.count(b"\n"))
            ]
            assert found == blamed(upstream, change.commit, path)[: len(found)], (path, change.title)
            compared += len(found)
    return compared


def test_lines_are_followed_through_merges_renames_and_strange_content(upstream: Any) -> None:
    upstream.commit("Begin", {"a.py": "one\ntwo\nthree\n", 'odd "n\tame".txt': "x\ny\n", "empty": ""})
    upstream.branch("topic")
    upstream.commit("wip", {"a.py": "one\nTWO\nthree\nfour\n"})
    upstream.commit("wip 2", {"a.py": "zero\none\nTWO\nthree\nfour\n"})
    upstream.merge("topic", "Merge pull request #1 from ada/topic\n\nCount on")
    upstream.commit("Move", {"a.py": None, "pkg/b.py": "zero\none\nTWO\n3\nfour\n"})
    upstream.commit("Looks like a diff", {"pkg/b.py": "zero\n-- a/x\n@@ -1 +1 @@\none\nTWO\n3\nfour"})
    upstream.commit("Swap", {"pkg/b.py": "zero\n++ b/x\none\nTWO\n3\nfour\n", 'odd "n\tame".txt': "x\nz\n"})
    upstream.commit("Binary now", {"picture": b"\0\1\n", "empty": "no more\n"})
    upstream.commit("Away", {"pkg/b.py": None})
    upstream.commit("Back again", {"pkg/b.py": "zero\none\nTWO\n3\nfour\n", "latin": b"caf\xe9\nau lait\n"})
    with open_history(str(upstream.folder), timeout_s=30) as history:
        assert agrees(upstream, history) > 50


def test_random_histories_agree_with_git_on_every_line(upstream: Any) -> None:
    chance = random.Random(7)
    files = {f"f{number}.txt": [f"line {line}" for line in range(20)] for number in range(3)}
    for step in range(25):
        lines = files[chance.choice(sorted(files))]
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(lines))
            lines[at : at + chance.randrange(3)] = [f"step {step} {chance.random()}"] * chance.randrange(1, 3)
        upstream.commit(f"Step {step}", {name: "\n".join(text) + "\n" for name, text in files.items()})
    with open_history(str(upstream.folder), timeout_s=30) as history:
        assert agrees(upstream, history) > 1000


def test_only_the_bases_asked_for_are_told_of_and_files_they_share_once(upstream: Any) -> None:
    commits = [upstream.commit(f"Step {step}", {"a": f"{step}\n", "same": "same\n"}) for step in range(5)]
    with open_history(str(upstream.folder), timeout_s=30) as history:
        rows = lineage(history, [commits[1], commits[3]])
    assert [(row.path, row.since, row.runs) for row in rows] == [
        ("a", 1, ((1, 1),)),
        ("same", 0, ((0, 1),)),
        ("a", 3, ((3, 1),)),
    ]
