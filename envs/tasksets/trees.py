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
import re
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
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
    """Return the diff that turns `before` into `after`, as git writes it; empty when they are equal.

    Files that are not UTF-8 text on both sides come last, in git's binary form, so the diff is always text.
    """
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    texts, others = list[str](), list[str]()
    for name in changed:
        sides = [side[name].data for side in (before, after) if name in side]
        (texts if all(map(is_text, sides)) else others).append(name)
    return _diff(before, after, texts, binary=False) + _diff(before, after, others, binary=True)


def _diff(
    before: Mapping[str, TreeFile], after: Mapping[str, TreeFile], names: Sequence[str], *, binary: bool
) -> str:
    """Return git's diff of the files of these names."""
    if not names:
        return ""
    with tempfile.TemporaryDirectory(prefix="daythree-diff-") as scratch:
        for label, tree in (("a", before), ("b", after)):
            (Path(scratch) / label).mkdir()
            write_tree({name: tree[name] for name in names if name in tree}, Path(scratch) / label)
        attributes = Path(scratch) / "attributes"
        attributes.write_text("* -diff\n" if binary else "")  # else git takes Latin-1 for text
        return _git(scratch, "-c", f"core.attributesFile={attributes}", "diff", "--no-index", "--no-color",
                    "--no-ext-diff", "--no-textconv", "--no-renames", "--no-prefix",
                    "--binary" if binary else "--text", "a", "b", ok=(0, 1))  # fmt: skip


def apply_patch(tree: Mapping[str, TreeFile], patch: str, *, leave_out_links: bool = False) -> Tree:
    """Return the tree with a diff (`a/`, `b/` prefixes) applied exactly, without fuzz.

    Renames, copies and git's binary form are applied. Raises PatchError when the diff does not apply, was cut
    off, touches paths outside the tree, or holds symbolic links or submodules; with `leave_out_links` the
    latter are passed over.
    """
    if not patch.strip():
        return dict(tree)
    if not leave_out_links:
        _refuse_links(patch)
    touched = patched_paths(patch)
    for name in touched:
        if not is_safe(name):
            raise PatchError(f"the patch touches a path outside the tree: {name!r}")
    with tempfile.TemporaryDirectory(prefix="daythree-patch-") as scratch:
        folder = Path(scratch) / "tree"
        folder.mkdir()
        found = {name: tree[name] for name in touched if name in tree}
        write_tree(found, folder)
        (Path(scratch) / "patch").write_bytes(_as_bytes(patch))
        try:
            _git(str(folder), "apply", "--whitespace=nowarn", "../patch")
        except PatchError as error:
            raise _explained(error, patch, found) from error
        result = {name: entry for name, entry in tree.items() if name not in touched}
        return result | read_tree(folder, only=touched)


def patched_paths(patch: str) -> frozenset[str]:
    """Return every path that a diff creates, changes, deletes, or renames or copies from, as git reads it.

    Raises PatchError for text that is no whole diff.
    """
    with tempfile.TemporaryDirectory(prefix="daythree-patch-") as scratch:
        (Path(scratch) / "patch").write_bytes(_as_bytes(patch))
        # A listing has the new name of a renamed file; that of the reverse diff has the old one.
        ways = ((), ("-R",)) if _RENAMES.search(patch) else ((),)
        try:
            listings = [_git(scratch, "apply", *way, "--numstat", "-z", "patch") for way in ways]
        except PatchError as error:
            raise _explained(error, patch, {}) from error
    rows = "".join(listings).split("\0")
    return frozenset(row.split("\t", 2)[2] for row in rows if row.count("\t") >= 2)


_RENAMES = re.compile(r"^(?:rename|copy) from ", re.MULTILINE)
_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_LINK = re.compile(
    r"(?:(?:new|deleted) file mode|(?:old|new) mode|index [0-9a-f]+\.\.[0-9a-f]+) (?P<mode>120000|160000)$"
)
_SUBMODULE = re.compile(r"Submodule (?P<name>.+) (?:[0-9a-f]+\.{2,3}[0-9a-f]+|contains )")


def _refuse_links(patch: str) -> None:
    """Raise PatchError for the first symbolic link or submodule: trees hold regular files only."""
    name = None  # of the file whose header is read
    for line in patch.split("\n"):
        if line.startswith("diff --git "):
            name = line.removeprefix("diff --git ").strip()
        elif line.startswith(("@@ ", "GIT binary patch")):
            name = None
        elif name is not None and (found := _LINK.match(line.rstrip("\r"))):
            kind = "symbolic link" if found["mode"] == "120000" else "submodule"
            raise PatchError(f"the patch changes a {kind}, which no tree holds: {name}")
        elif found := _SUBMODULE.match(line):
            raise PatchError(f"the patch changes a submodule, which no tree holds: {found['name']}")


def _is_cut_off(patch: str, said: str) -> bool:
    """Whether the last file of a diff, of which git `said` an error, ends within its header or a hunk."""
    lines = patch.rstrip("\n").split("\n")
    places = [place for place, line in enumerate(lines) if line.startswith("diff --git ")]
    last = lines[places[-1] if places else 0 :]
    hunks = [place for place, line in enumerate(last) if _HUNK.match(line)]
    if not hunks:
        whole = "GIT binary patch" in last and "corrupt binary" not in said
        return not whole and any(line.startswith(("diff --git ", "--- ")) for line in last)
    counts = _HUNK.match(last[hunks[-1]])
    assert counts is not None
    body = last[hunks[-1] + 1 :]
    old = sum(line[:1] in " -" for line in body)  # an empty line is an empty context line
    new = sum(line[:1] in " +" for line in body)
    return old < int(counts[1] or 1) or new < int(counts[2] or 1)


def _explained(error: PatchError, patch: str, files: Mapping[str, TreeFile]) -> PatchError:
    """Return git's error for a patch of these files, or one that says more than git does."""
    if _is_cut_off(patch, str(error)):
        return PatchError("the patch is cut off")
    others = [name for name, entry in sorted(files.items()) if b"\r\n" in entry.data]
    if others and "\r\n" not in patch:
        return PatchError(f"the lines of {others[0]} end in CRLF, and those of the patch in LF")
    return error


def _as_bytes(patch: str) -> bytes:
    """Return a diff as git reads it, with the line ends that are often stripped: a binary one ends in two.

    Raises PatchError for half of a surrogate pair.
    """
    try:
        data = patch.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise PatchError("the patch holds half of a surrogate pair, which no file does") from error
    ends = b"\n\n" if b"\nGIT binary patch\n" in data else b"\n"
    return data if data.endswith(ends) else data + ends


def is_text(data: bytes) -> bool:
    """Whether bytes are UTF-8 without NUL, so that a diff shows them line by line."""
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
        raise PatchError(f"git could not run: {error}") from error
    if status not in ok:
        verb = next(word for word in command if word in ("apply", "diff"))
        raise PatchError(f"git {verb} refused: {_text(err).strip()[:500]}")
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
