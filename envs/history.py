"""The fresh git repository a policy finds: one commit, made by us, of exactly the base tree.

Nothing of upstream's history is ever near: no objects, refs, reflogs, packs or remotes, so there is
nothing to dig a fix out of.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from git import Actor, Repo

from .trees import GIT_ENV, Tree, TreeFile, write_tree

_WHEN = "2000-01-01T00:00:00"
_WHO = Actor("Day Three", "daythree@localhost")
_KEPT = ("HEAD", "config", "index", "objects/", "refs/")


def one_commit(tree: Mapping[str, TreeFile]) -> Tree:
    """Return the files of a `.git` folder whose only commit is this tree; equal trees give equal ids."""
    with tempfile.TemporaryDirectory(prefix="daythree-git-") as scratch:
        folder = Path(scratch)
        write_tree(tree, folder)
        with Repo.init(folder, initial_branch="main") as repo:
            repo.git.update_environment(**GIT_ENV)
            repo.git.add("--all", "--force")
            repo.index.commit(
                "Base", author=_WHO, committer=_WHO, author_date=_WHEN, commit_date=_WHEN, skip_hooks=True
            )
            repo.git.repack("-adq")
            repo.git.prune_packed("-q")
            return {
                f".git/{path}": TreeFile((folder / ".git" / path).read_bytes())
                for path in _files(folder / ".git")
                if path.startswith(_KEPT)
            }


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
