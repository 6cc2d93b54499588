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

NAMES = st.text(string.ascii_letters + 'äß_-. 7\t"\\\x7f\u2028🙂*:', min_size=1, max_size=8).filter(
    lambda name: name.strip(". ") != "" and name.lower() != ".git"
)
TEXTS = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=60
) | st.sampled_from(["", "a\n", "no newline", "a\r\nb\r\n", "\n\n", "--- a/x\n+++ b/x\n", "\x0c\n"])
BYTES = (
    TEXTS.map(str.encode)
    | st.binary(max_size=60)
    | TEXTS.map(lambda text: text.encode("utf-16"))
    | TEXTS.map(lambda text: text.encode("latin-1", "replace"))
    | st.sampled_from([b"caf\xe9\n", b"\xef\xbb\xbfx\n", b"\0", b"x = 1\n" * 2000 + b"\xff"])
)
TREES = st.dictionaries(NAMES, st.builds(TreeFile, BYTES, st.booleans()), max_size=4)


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


def test_bytes_of_any_kind_travel_in_a_diff_that_is_text() -> None:
    before: Tree = {"l.py": TreeFile(b"# caf\xe9\nx = 1\n"), "b.bin": TreeFile(b"\0\1" * 900)}
    after: Tree = {"l.py": TreeFile(b"# caf\xe9\nx = 2\n", executable=True), "b.bin": TreeFile(b"now text\n")}
    patch = diff_trees(before, after)
    assert patch.count("GIT binary patch") == 2 and patch.isascii()
    assert apply_patch(before, patch) == after
    with pytest.raises(PatchError, match=r"l\.py"):
        apply_patch({**before, "l.py": TreeFile(b"another")}, patch)


MOVES = """diff --git a/a.py b/{new}
similarity index 66%
{kind} from a.py
{kind} to {new}
--- a/a.py
+++ b/{new}
@@ -1,3 +1,3 @@
 one
-two
+TWO
 three
"""
LINES = TreeFile(b"one\ntwo\nthree\n")


@pytest.mark.parametrize("new", ["c.py", "new folder/c.py", '"t\\tab.py"'])
def test_renames_and_copies_are_applied(new: str) -> None:
    name = new.strip('"').replace("\\t", "\t")
    header = f'diff --git a/a.py "b/{new.strip(chr(34))}"' if '"' in new else f"diff --git a/a.py b/{new}"
    shown = f'"b/{new[1:]}' if '"' in new else f"b/{new}"
    done = LINES.data.replace(b"two", b"TWO")
    for kind in ("rename", "copy"):
        patch = MOVES.format(kind=kind, new=new).replace(f"diff --git a/a.py b/{new}", header)
        patch = patch.replace(f"+++ b/{new}", f"+++ {shown}")
        kept = {"a.py": LINES} if kind == "copy" else {}
        assert apply_patch({"a.py": LINES, "z": LINES}, patch) == {"z": LINES, name: TreeFile(done), **kept}
        assert patched_paths(patch) == {"a.py", name}
    whole = f"{header}\nsimilarity index 100%\nrename from a.py\nrename to {new}\n"
    assert apply_patch({"a.py": LINES}, whole) == {name: LINES}


CHANGE = """diff --git a/a.py b/a.py
--- a/a.py
+++ b/a.py
@@ -1,3 +1,3 @@
 one
-two
+TWO
 three
"""


def test_a_missing_last_newline_is_no_matter_and_a_cut_off_patch_is_named() -> None:
    whole = apply_patch({"a.py": LINES}, CHANGE)
    assert apply_patch({"a.py": LINES}, CHANGE.rstrip("\n")) == whole
    lines = CHANGE.splitlines(keepends=True)
    for count in range(2, len(lines)):
        with pytest.raises(PatchError, match="the patch is cut off"):
            apply_patch({"a.py": LINES}, "".join(lines[:count]))
    binary = diff_trees({}, {"b": TreeFile(bytes(range(256)))})
    assert apply_patch({}, binary.strip()) == {"b": TreeFile(bytes(range(256)))}
    with pytest.raises(PatchError, match="the patch is cut off"):
        apply_patch({}, binary[: len(binary) // 2])
    for damaged in (CHANGE.replace("@@ -1,3", "@@ -1,2"), "no patch at all"):
        with pytest.raises(PatchError, match="git apply refused"):
            apply_patch({"a.py": LINES}, damaged)


LINK = "new file mode 120000\nindex 0000000..1de5659\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+a.py\n"
LINK += "\\ No newline at end of file\n"


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        (LINK, "symbolic link"),
        (LINK.replace("new file mode 120000\nindex 0000000..1de5659", "index 1..2 120000"), "symbolic link"),
        ("new file mode 160000\nindex 0000000..1de5659\n", "submodule"),
        ("old mode 100644\nnew mode 120000\n", "symbolic link"),
        ("deleted file mode 160000\nindex 1de5659..0000000\n", "submodule"),
    ],
)
def test_links_and_submodules_in_a_patch_are_refused_by_name(entry: str, kind: str) -> None:
    patch = f"{CHANGE}diff --git a/l b/l\n{entry}"
    with pytest.raises(PatchError, match=f"{kind}.*b/l"):
        apply_patch({"a.py": LINES}, patch)
    with pytest.raises(PatchError, match=r"submodule.*sub"):
        apply_patch({"a.py": LINES}, "Submodule sub 1de5659..2ab4711:\n  > news\n" + CHANGE)
    stored = f"{CHANGE}diff --git a/l b/l\n{LINK}"
    assert apply_patch({"a.py": LINES}, stored, leave_out_links=True).keys() == {"a.py"}


def test_lines_that_look_like_headers_are_text() -> None:
    before: Tree = {"a": TreeFile(b"")}
    after: Tree = {
        "a": TreeFile(b"new file mode 120000\nrename from b\nSubmodule s 1a..2b:\n@@ -1,9 +1,9 @@\n")
    }
    assert apply_patch(before, diff_trees(before, after)) == after


def test_caches_in_a_patch_are_applied_like_any_file() -> None:
    patch = CHANGE.replace("a.py", "__pycache__/k.py")
    assert apply_patch({"__pycache__/k.py": LINES}, patch) != {"__pycache__/k.py": LINES}


def test_a_patch_with_other_line_ends_is_refused_by_that_name() -> None:
    crlf = TreeFile(LINES.data.replace(b"\n", b"\r\n"))
    with pytest.raises(PatchError, match=r"lines of a\.py end in CRLF, and those of the patch in LF"):
        apply_patch({"a.py": crlf}, CHANGE)
    body = CHANGE[CHANGE.index(" one") :]
    assert apply_patch({"a.py": crlf}, CHANGE.replace(body, body.replace("\n", "\r\n")))


def test_half_of_a_surrogate_pair_in_a_patch_is_refused() -> None:
    with pytest.raises(PatchError, match="surrogate"):
        apply_patch({"a.py": LINES}, CHANGE.replace("TWO", "\ud83d"))


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
