"""Trees, their diffs and archives."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.tasksets.trees import (
    PatchError,
    Tree,
    TreeFile,
    apply_patch,
    diff_trees,
    digest,
    is_safe,
    pack,
    patched_paths,
    read_tree,
    unpack,
    write_tree,
)

NAMES = st.text(string.ascii_letters + "äß_-. 7", min_size=1, max_size=8).filter(
    lambda name: name.strip(". ") != "" and name.lower() != ".git"
)
TEXTS = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=60
) | st.sampled_from(["", "a\n", "no newline", "a\r\nb\r\n", "\n\n", "--- a/x\n+++ b/x\n", "\x0c\n"])
TREES = st.dictionaries(
    NAMES,
    st.builds(TreeFile, TEXTS.map(lambda text: text.encode()), st.booleans()),
    max_size=4,
)


@settings(max_examples=60, deadline=None)
@given(TREES, TREES)
def test_a_diff_applied_to_its_start_gives_its_end(before: Tree, after: Tree) -> None:
    assert apply_patch(before, diff_trees(before, after)) == after


def test_a_diff_survives_files_without_a_final_newline_and_odd_names() -> None:
    before: Tree = {"pkg/ä b.py": TreeFile(b"one\ntwo"), "gone.txt": TreeFile(b"x\n")}
    after: Tree = {"pkg/ä b.py": TreeFile(b"one\n2"), "new.sh": TreeFile(b"#!/bin/sh\n", executable=True)}
    patch = diff_trees(before, after)
    assert apply_patch(before, patch) == after
    assert patched_paths(patch) == {"pkg/ä b.py", "gone.txt", "new.sh"}


def test_a_patch_that_does_not_fit_is_refused_without_fuzz() -> None:
    patch = diff_trees({"a": TreeFile(b"1\n2\n3\n")}, {"a": TreeFile(b"1\n2\n4\n")})
    with pytest.raises(PatchError, match="git apply refused"):
        apply_patch({"a": TreeFile(b"1\n2\n5\n")}, patch)


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", ".git/hooks/pre-commit", "a/.GIT/config"])
def test_a_patch_cannot_leave_the_tree(path: str) -> None:
    patch = f"--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+x\n"
    with pytest.raises(PatchError):
        apply_patch({}, patch)
    assert not is_safe(path)


def test_binary_files_do_not_travel_in_a_diff() -> None:
    with pytest.raises(PatchError, match="not text"):
        diff_trees({}, {"x.pyc": TreeFile(b"\0\1")})


def test_archives_and_folders_round_trip_and_leave_links_out(tmp_path) -> None:
    tree: Tree = {"a/b.py": TreeFile("ü\n".encode()), "run": TreeFile(b"x", executable=True)}
    write_tree(tree, tmp_path)
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/config").write_text("secret")
    assert read_tree(tmp_path) == tree
    assert unpack(pack(tree)) == tree
    assert digest(read_tree(tmp_path)) == digest(tree)
    assert digest(tree) != digest({**tree, "run": TreeFile(b"x")})
