"""A repository's own history: every kind of change read right, whatever strange things it holds."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from subprocess import run
from typing import Any

import pytest
from git import Repo

from envs.register.errors import RegisterError
from envs.register.history.mainline import History, open_history
from envs.tasksets.trees import TreeFile, apply_patch

READ_S = 30.0


def opened(upstream: Any) -> History:
    return open_history(str(upstream.folder), timeout_s=READ_S)


def test_every_kind_of_change_is_one_step_of_the_first_parent_line(upstream: Any) -> None:
    root = upstream.commit("Begin\n\nThe first words.", {"a.py": "a = 1\n"})
    upstream.branch("topic")
    upstream.commit("wip", {"a.py": "a = 2\n"}, author="Bob")
    upstream.commit("more wip", {"b.py": "b = 1\n"}, author="Bob")
    github = upstream.merge("topic", "Merge pull request #7 from bob/topic\n\nCount from two\n\nWhy: #3.")
    squashed = upstream.commit("Say three (#9)\n\nBecause.", {"a.py": "a = 3\n"})
    upstream.branch("lab")
    upstream.commit("wip", {"a.py": "a = 4\n"})
    text = "Merge branch 'lab' into 'main'\n\nSay four\n\nCloses #2\n\nSee merge request group/sub/project!11"
    gitlab = upstream.merge("lab", text)
    upstream.branch("develop")
    upstream.commit("one of many", {"c.py": "c = 1\n"})
    plain = upstream.merge("develop", "Merge branch 'develop'")
    reverted = upstream.commit('Revert "Say three (#9)"', {"a.py": "a = 2\n"})
    with opened(upstream) as history:
        seen = [
            (change.commit, change.kind, change.number, change.title, change.body, change.author)
            for change in history.changes
        ]
        assert seen == [
            (root, "commit", None, "Begin", "The first words.", "Ada"),
            (github, "merge", 7, "Count from two", "Why: #3.", "Bob"),
            (squashed, "squash", 9, "Say three", "Because.", "Ada"),
            (gitlab, "merge", 11, "Say four", "Closes #2", "Ada"),
            (plain, "merge", None, "Merge branch 'develop'", "", "Ada"),
            (reverted, "commit", None, 'Revert "Say three (#9)"', "", "Ada"),
        ]
        assert [change.base for change in history.changes] == ["", root, github, squashed, gitlab, plain]
        assert history.changes[1].files == ("a.py", "b.py"), "a merge is all that its branch brought"
        assert history.changes[0].merged_at == "2024-01-02T12:00:00Z"
        assert history.head == reverted


@pytest.mark.parametrize(
    ("message", "number", "title"),
    [
        ("Merged in ada/fix (pull request #5)\n\nMend it", 5, "Mend it"),
        ("Auto merge of #31 - ada:fix, r=bob\n\nMend it", 31, "Mend it"),
        ("Merge #8\n\n8: Mend it r=bob a=ada", 8, "8: Mend it r=bob a=ada"),
        ("Mend #4", None, "Mend #4"),
        ('Revert "Mend it (#4)" (#6)', 6, 'Revert "Mend it (#4)"'),
        ("Mend it\n\nSee merge request ada/project!12", 12, "Mend it"),
        ("Merge pull request #7 from bob/topic", 7, "Merge pull request #7 from bob/topic"),
    ],
)
def test_messages_of_other_forges_and_bots_are_understood(
    upstream: Any, message: str, number: int | None, title: str
) -> None:
    upstream.commit(message, {"a.py": "a = 1\n"})
    with opened(upstream) as history:
        assert (history.changes[0].number, history.changes[0].title) == (number, title)


def test_trees_are_whole_share_equal_files_and_name_what_they_leave_out(upstream: Any) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    first = upstream.commit(
        "Begin",
        {
            "a.py": "a = 1\n",
            "docs/ü n\tame.txt": "odd\n",
            "latin.txt": "caf\xe9\n".encode("latin-1"),
            "picture.bin": b"\0\1\2",
            "big.dat": pointer,
            os.fsdecode(b"not-utf8-\xff.txt"): "x\n",
        },
    )
    (upstream.folder / "link").symlink_to("a.py")
    (upstream.folder / "run.sh").write_text("#!/bin/sh\n")
    (upstream.folder / "run.sh").chmod(0o755)
    second = upstream.commit("Odd entries", submodules={"vendor/lib": first})
    with opened(upstream) as history:
        before, after = history.tree(first), history.tree(second)
        assert before["latin.txt"] == TreeFile("café\n".encode("latin-1"))
        assert before["docs/ü n\tame.txt"].data == b"odd\n"
        assert after["run.sh"].executable
        assert after["a.py"] is before["a.py"], "equal files of all trees in use are one"
        assert history.left_out(second) == (
            "big.dat (kept by git-lfs, not here)",
            "link (a symbolic link)",
            "not-utf8-\\xff.txt (a name that is not UTF-8)",
            "vendor/lib (a submodule)",
        )
        assert "not-utf8-\\xff.txt" in history.changes[0].files
        shown = history.diff(history.changes[0])
        assert "+a = 1" in shown
        assert "picture.bin" not in shown, "only text files are in a diff"
        assert "latin.txt" not in shown
        assert "vendor/lib" not in history.diff(history.changes[1])


def test_a_diff_applies_to_its_base_and_gives_its_change(upstream: Any) -> None:
    upstream.commit("Begin", {"a.py": "a = 1\n" * 9, "old.py": "x = 1\n" * 9, "tab\there.py": "t\n"})
    upstream.commit("Change", {"a.py": "a = 2\n" * 9, "old.py": None, "new.py": "x = 1\n" * 9, "e.py": ""})
    with opened(upstream) as history:
        first, second = history.changes
        assert apply_patch({}, history.diff(first)) == history.tree(first.commit)
        assert apply_patch(history.tree(first.commit), history.diff(second)) == history.tree(second.commit)
        assert "rename" not in history.diff(second)


def test_a_bare_repository_a_linked_work_tree_and_an_address_read_alike(
    upstream: Any, tmp_path: Path
) -> None:
    upstream.commit("Begin", {"a.py": "a = 1\n"})
    upstream.commit("Go on (#2)", {"a.py": "a = 2\n"})
    Repo.clone_from(upstream.folder, tmp_path / "bare.git", bare=True).close()
    upstream.repo.git.worktree("add", "--quiet", "--detach", str(tmp_path / "linked"))
    places = [upstream.folder, tmp_path / "bare.git", tmp_path / "linked", upstream.folder.as_uri()]
    found = []
    for place in places:
        with open_history(str(place), timeout_s=READ_S) as history:
            found.append((history.changes, history.tree(history.head)))
    assert all(reading == found[0] for reading in found)


def test_nothing_of_the_source_is_run_and_nothing_stays_behind(upstream: Any, tmp_path: Path) -> None:
    trap = tmp_path / "trap.sh"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\ncat\n")
    trap.chmod(trap.stat().st_mode | stat.S_IXUSR)
    upstream.commit("Begin", {"a.py": "a = 1\n", ".gitattributes": "*.py diff=trap filter=trap\n"})
    upstream.commit("Go on", {"a.py": "a = 2\n"})
    with upstream.repo.config_writer() as config:
        for name in ("external", "fsmonitor"):
            config.set_value("diff" if name == "external" else "core", name, str(trap))
        config.set_value('diff "trap"', "textconv", str(trap))
        config.set_value('filter "trap"', "smudge", str(trap))
        config.set_value("log", "showSignature", "true")
        config.set_value("gpg", "program", str(trap))
    with opened(upstream) as history:
        assert "+a = 2" in history.diff(history.changes[1])
        assert history.tree(history.head)["a.py"].data == b"a = 2\n"
        assert list(history.patches())
    assert not (tmp_path / "sprung").exists()
    assert not history.repository.scratch.exists()


def test_replaced_objects_are_not_believed(upstream: Any) -> None:
    real = upstream.commit("Real", {"a.py": "a = 1\n"})
    fake = upstream.commit("Fake", {"a.py": "a = 2\n"})
    upstream.repo.git.reset("--quiet", "--hard", real)
    upstream.repo.git.replace(real, fake)
    with opened(upstream) as history:
        assert [change.title for change in history.changes] == ["Real"]
        assert history.tree(real)["a.py"].data == b"a = 1\n"


def test_what_is_no_whole_repository_is_refused_in_one_line(upstream: Any, tmp_path: Path) -> None:
    def refused(place: Path | str) -> str:
        with pytest.raises(RegisterError) as caught:
            open_history(str(place), timeout_s=READ_S)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "has no commit" in refused(upstream.folder)
    upstream.commit("Begin", {"src/a.py": "a = 1\n"})
    upstream.commit("Go on", {"src/a.py": "a = 2\n"})
    assert "inside the repository" in refused(upstream.folder / "src")
    assert "there is no folder" in refused(tmp_path / "nowhere")
    assert "not a git repository" in refused(tmp_path)
    shallow = tmp_path / "shallow"
    Repo.clone_from(upstream.folder.as_uri(), shallow, multi_options=["--depth=1"]).close()
    assert "shallow" in refused(shallow)
    assert "could not be cloned" in refused(f"file://{tmp_path}/nowhere.git")
    grafts = upstream.folder / ".git" / "info" / "grafts"
    grafts.parent.mkdir(exist_ok=True)
    grafts.write_text(f"{upstream.repo.head.commit.hexsha}\n")
    assert "grafted" in refused(upstream.folder)
    grafts.unlink()
    broken = Repo.clone_from(upstream.folder, tmp_path / "broken", multi_options=["--no-local"])
    for pack in (tmp_path / "broken" / ".git" / "objects").rglob("*.pack"):
        pack.chmod(0o644)
        pack.write_bytes(pack.read_bytes()[:40])
    broken.close()
    assert refused(tmp_path / "broken")


def test_three_thousand_commits_take_seconds(upstream: Any) -> None:
    script = [b"blob\nmark :1\ndata 6\na = 1\n\n"]
    for number in range(1, 3001):
        text = f"a = {number}\n".encode()
        script.append(b"blob\nmark :%d\ndata %d\n%s\n" % (number + 1, len(text), text))
        script.append(
            b"commit refs/heads/main\ncommitter A <a@localhost> %d +0000\n"
            b"data 4\nStep\nM 100644 :%d m%d.py\n\n" % (1_600_000_000 + number, number + 1, number % 50)
        )
    run(["git", "-C", str(upstream.folder), "fast-import", "--quiet"], input=b"".join(script), check=True)
    started = time.monotonic()
    with opened(upstream) as history:
        assert len(history.changes) == 3000
        assert sum(1 for _ in history.patches()) == 3000
    assert time.monotonic() - started < 30
