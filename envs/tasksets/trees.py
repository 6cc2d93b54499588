"""File trees in memory: the start and end of a task, and the diff between them.

A tree maps relative POSIX paths to regular files. git makes and applies diffs in a private scratch directory,
without any foreign repository, hooks, filters, attributes or configuration, so a tree from a sandbox is never
more than data.

    tree = {"src/wc.py": TreeFile(b"def width(): ..."), "run.sh": TreeFile(b"#!/bin/sh", executable=True)}
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from git import Actor, Repo
from git.cmd import Git
from git.exc import GitCommandError

GIT_S = 30.0
"""Deadline of one git command on a handful of files."""

GIT_ENV = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_CEILING_DIRECTORIES": tempfile.gettempdir(),
    "LC_ALL": "C",
}
"""Keeps the configuration and attributes of the machine and its user out of what git does for us."""


class PatchError(ValueError):
    """A diff that does not apply, or cannot be represented. Takes one sentence."""


@dataclass(frozen=True)
class TreeFile:
    """A regular file."""

    data: bytes
    executable: bool = False

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


Tree = dict[str, TreeFile]


def digest(tree: Mapping[str, TreeFile]) -> str:
    """SHA-256 over paths, execute bits and contents, in path order."""
    total = hashlib.sha256()
    for path in sorted(tree):
        entry = tree[path]
        total.update(f"{path}\0{int(entry.executable)}\0{entry.sha256}\n".encode())
    return total.hexdigest()


def is_safe(path: str) -> bool:
    """Whether a relative path stays inside its tree and outside any `.git`."""
    parts = PurePosixPath(path).parts
    return (
        bool(parts)
        and not path.startswith("/")
        and ".." not in parts
        and not any(part.lower() == ".git" for part in parts)
        and "\0" not in path
        and "\n" not in path
    )


def read_tree(folder: Path, *, only: Iterable[str] | None = None) -> Tree:
    """Read a folder's regular files; symlinks, special files and `.git` are left out.

    With `only`, just these relative paths.
    """
    names = only if only is not None else _walk(folder)
    tree: Tree = {}
    for name in sorted(names):
        path = folder / name
        if is_safe(name) and path.is_file() and not path.is_symlink():
            tree[name] = TreeFile(path.read_bytes(), executable=bool(path.stat().st_mode & 0o100))
    return tree


def _walk(folder: Path) -> Iterable[str]:
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in (".git", "__pycache__")]
        for name in files:
            yield (Path(root) / name).relative_to(folder).as_posix()


def write_tree(tree: Mapping[str, TreeFile], folder: Path) -> None:
    """Write every file under `folder`."""
    for name, entry in tree.items():
        if not is_safe(name):
            raise PatchError(f"refusing to write outside the tree: {name!r}")
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(entry.data)
        path.chmod(0o755 if entry.executable else 0o644)


def pack(tree: Mapping[str, TreeFile], *, folder: str = "") -> bytes:
    """Return the tree as an uncompressed tar archive; equal trees give equal bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(tree):
            entry = tree[name]
            info = tarfile.TarInfo(str(PurePosixPath(folder) / name))
            info.size, info.mode = len(entry.data), 0o755 if entry.executable else 0o644
            archive.addfile(info, io.BytesIO(entry.data))
    return buffer.getvalue()


def unpack(data: bytes) -> Tree:
    """Read regular files from a tar archive, compressed or not; all other members are left out."""
    tree: Tree = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for info in archive:
            name = PurePosixPath(info.name).as_posix()
            content = archive.extractfile(info) if info.isreg() and is_safe(name) else None
            if content is not None:
                tree[name] = TreeFile(content.read(), executable=bool(info.mode & 0o100))
    return tree


def diff_trees(before: Mapping[str, TreeFile], after: Mapping[str, TreeFile]) -> str:
    """Return the unified diff that turns `before` into `after`; empty when they are equal.

    Raises PatchError when a changed file is not text.
    """
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if not changed:
        return ""
    for name in changed:
        for side in (before.get(name), after.get(name)):
            if side is not None and not is_text(side.data):
                raise PatchError(f"{name} is not text, so it cannot be part of a diff")
    with tempfile.TemporaryDirectory(prefix="daythree-diff-") as scratch:
        for label, tree in (("a", before), ("b", after)):
            (Path(scratch) / label).mkdir()
            write_tree({name: tree[name] for name in changed if name in tree}, Path(scratch) / label)
        return _git(scratch, "diff", "--no-index", "--no-color", "--no-ext-diff", "--no-textconv",
                    "--no-renames", "--no-prefix", "--text", "a", "b", ok=(0, 1))  # fmt: skip


def apply_patch(tree: Mapping[str, TreeFile], patch: str) -> Tree:
    """Return the tree with a unified diff (`a/`, `b/` prefixes) applied exactly, without fuzz.

    Raises PatchError when it does not apply or touches paths outside the tree.
    """
    if not patch.strip():
        return dict(tree)
    touched = patched_paths(patch)
    for name in touched:
        if not is_safe(name):
            raise PatchError(f"the patch touches a path outside the tree: {name!r}")
    with tempfile.TemporaryDirectory(prefix="daythree-patch-") as scratch:
        folder = Path(scratch) / "tree"
        folder.mkdir()
        write_tree({name: tree[name] for name in touched if name in tree}, folder)
        (Path(scratch) / "patch").write_bytes(patch.encode("utf-8", "surrogateescape"))
        _git(str(folder), "apply", "--whitespace=nowarn", "../patch")
        result = {name: entry for name, entry in tree.items() if name not in touched}
        return result | read_tree(folder)


def patched_paths(patch: str) -> frozenset[str]:
    """Return every path that a unified diff creates, changes or deletes, as git reads the diff."""
    with tempfile.TemporaryDirectory(prefix="daythree-patch-") as scratch:
        (Path(scratch) / "patch").write_bytes(patch.encode("utf-8", "surrogateescape"))
        listing = _git(scratch, "apply", "--numstat", "-z", "patch")
    return frozenset(row.split("\t", 2)[2] for row in listing.split("\0") if row.count("\t") == 2)


def is_text(data: bytes) -> bool:
    """Whether bytes are UTF-8 without NUL, as a diff requires."""
    try:
        return "\0" not in data.decode("utf-8")
    except UnicodeDecodeError:
        return False


def _git(folder: str, *command: str, ok: tuple[int, ...] = (0,)) -> str:
    """Run git outside any repository and return its output as bytes."""
    try:
        status, out, err = Git(folder).execute(
            ["git", *command],
            env=GIT_ENV,
            with_extended_output=True,
            with_exceptions=False,
            strip_newline_in_stdout=False,
            stdout_as_string=False,
            kill_after_timeout=GIT_S,
        )
    except GitCommandError as error:
        raise PatchError(f"git {command[0]} could not run: {error}") from error
    if status not in ok:
        raise PatchError(f"git {command[0]} refused: {_text(err).strip()[:500]}")
    return _text(out)


def _text(output: str | bytes) -> str:
    return output if isinstance(output, str) else output.decode("utf-8", "surrogateescape")


_WHEN = "2000-01-01T00:00:00"
_WHO = Actor("Day Three", "daythree@localhost")
_KEPT = ("HEAD", "config", "index", "objects/", "refs/")


def one_commit(tree: Mapping[str, TreeFile]) -> Tree:
    """Return the files of a `.git` folder with one commit of this tree; equal trees give equal ids."""
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
