"""Trees by content: what is stored comes back, once, and damage is noticed."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from envs.tasksets.store import StoreDamaged, TreeStore, pack_trees
from envs.tasksets.trees import Tree, TreeFile, digest

SHARED = TreeFile(b"shared \xff bytes\n" * 50)
FIRST: Tree = {"a.py": SHARED, "bin/run": TreeFile(b"#!/bin/sh\n", executable=True)}
SECOND: Tree = {"a.py": SHARED, "ünïcode.txt": TreeFile(b"")}


@pytest.fixture
def store(tmp_path: Path) -> TreeStore:
    (tmp_path / "trees.zip").write_bytes(pack_trees([FIRST, SECOND]))
    return TreeStore(tmp_path / "trees.zip")


def test_trees_come_back_equal_and_shared_files_are_kept_once(store: TreeStore) -> None:
    assert store.tree(digest(FIRST)) == FIRST
    assert store.tree(digest(SECOND)) == SECOND
    assert set(store.digests()) == {digest(FIRST), digest(SECOND)}
    assert len([n for n in zipfile.ZipFile(store.path).namelist() if n.startswith("blobs/")]) == 3
    assert store.tree(digest(FIRST))["a.py"] is store.tree(digest(SECOND))["a.py"]


def test_order_and_repetition_change_nothing() -> None:
    assert pack_trees([FIRST, SECOND]) == pack_trees([SECOND, FIRST, SECOND])


def test_changing_what_is_returned_changes_no_other(store: TreeStore) -> None:
    store.tree(digest(FIRST)).clear()
    assert store.tree(digest(FIRST)) == FIRST


def test_a_tree_that_is_not_there_is_one_sentence(store: TreeStore) -> None:
    with pytest.raises(StoreDamaged, match="does not hold all of tree 0000"):
        store.tree("0000")


def test_a_blob_with_other_content_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "trees.zip"
    tree = {"a.py": TreeFile(b"never seen before\n")}
    packed = pack_trees([tree])
    with zipfile.ZipFile(path, "w") as archive:
        (tmp_path / "packed").write_bytes(packed)
        for name in zipfile.ZipFile(tmp_path / "packed").namelist():
            data = zipfile.ZipFile(tmp_path / "packed").read(name)
            archive.writestr(name, b"other\n" if name.startswith("blobs/") else data)
    with pytest.raises(StoreDamaged, match="damaged"):
        TreeStore(path).tree(digest(tree))
