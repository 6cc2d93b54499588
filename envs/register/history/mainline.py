"""First-parent walk of a project's default branch, change by change: merges, squashed merges, plain commits.

Only first parents are followed, so all commits of a merged branch are one change: the merge. The forges word
the messages of merges like this:

    Merge pull request #12 from ada/branch      the title is the body's first line      (GitHub, a merge)
    Title (#12)                                                                         (GitHub, squashed)
    Merge branch 'x' into 'main'                … See merge request group/project!12    (GitLab)
    Merged in branch (pull request #12)                                                 (Bitbucket)
    Merge #12 · Auto merge of #12 - ada:branch                                          (merge bots)
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Literal
from weakref import WeakValueDictionary

from envs.tasksets.trees import Tree, TreeFile, is_safe

from ..errors import RegisterError
from .patches import MARK, sections, text_section
from .repository import Repository

SIZE_LIMIT = 64 * 1024 * 1024
"""Largest tree that is read, in bytes."""
HISTORY_S = 300.0
"""Deadline for one walk over the whole history."""
_KEPT_TREES = 4
"""Trees that are held in memory, the latest used."""
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_FIRST_PARENTS = ("--first-parent", "-m", "--reverse", "--no-show-signature", "--no-notes", "--no-color")
# Nothing of the source may be run: no external diffs, no text converters.
_PLAIN_DIFF = ("--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/")

Kind = Literal["merge", "squash", "commit"]


@dataclass(frozen=True)
class Change:
    """One commit of the default branch's first-parent line."""

    commit: str
    base: str
    """Id of the preceding commit on the line; empty for the first commit."""
    kind: Kind
    number: int | None
    """Number of the pull or merge request; None if the commit message names no number."""
    title: str
    body: str
    author: str
    merged_at: str
    """ISO 8601, UTC, to the second."""
    files: tuple[str, ...]
    """Paths that differ from the base; bytes that are not UTF-8 are written as escapes."""


class History:
    """A repository's first-parent line, oldest change first, and its trees. A context manager."""

    def __init__(self, repository: Repository, *, timeout_s: float = HISTORY_S) -> None:
        self.repository = repository
        self.name, self.source, self.head = repository.name, repository.source, repository.head
        self._timeout_s = timeout_s
        self._lock = threading.RLock()
        self._files: WeakValueDictionary[tuple[str, bool], TreeFile] = WeakValueDictionary()
        self._folders: dict[str, list[tuple[int, bytes, str]]] = {}
        self._walked: dict[str, tuple[Tree, tuple[str, ...]]] = {}

    def __enter__(self) -> History:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the repository, and remove the clone of a URL."""
        self.repository.close()

    @cached_property
    def changes(self) -> tuple[Change, ...]:
        """The changes of the first-parent line, walked at first access. Raises RegisterError."""
        return tuple(_changes(self.repository, self._timeout_s))

    def tree(self, commit: str) -> Tree:
        """Return a commit's regular files; trees share the objects of equal files. Raises RegisterError."""
        return dict(self._walk(commit)[0])

    def left_out(self, commit: str) -> tuple[str, ...]:
        """Return the entries of a commit that no tree can hold, with the reasons. Raises RegisterError."""
        return self._walk(commit)[1]

    def diff(self, change: Change) -> str:
        """Return a change as a unified diff of its text files, without renames. Raises RegisterError."""
        lines = self.repository.lines(
            "diff-tree", "-p", "-r", "--root", "--no-renames", *_PLAIN_DIFF, *filter(None, [change.base]),
            change.commit,
        )  # fmt: skip
        return "".join(filter(None, (text_section(part) for _, part in sections(lines))))

    def patches(self, *options: str, timeout_s: float = HISTORY_S) -> Iterator[tuple[str, bytes]]:
        """Yield the commit id and the diff of every changed file, oldest change first, from one `git log`.

        `options` are further options of `git log`. A change without files yields nothing.
        Raises RegisterError.
        """
        command = ("log", *_FIRST_PARENTS, "-p", *_PLAIN_DIFF, *options, f"--format={MARK.decode()}%H")
        return sections(self.repository.lines(*command, self.head, timeout_s=timeout_s))

    def _walk(self, commit: str) -> tuple[Tree, tuple[str, ...]]:
        with self._lock:
            found = self._walked.pop(commit, None) or self._read(commit)
            self._walked[commit] = found
            if len(self._walked) > _KEPT_TREES:
                self._walked.pop(next(iter(self._walked)))
            return found

    def _read(self, commit: str) -> tuple[Tree, tuple[str, ...]]:
        root = self.repository.read(commit).split(b"\n", 1)[0].removeprefix(b"tree ").decode()
        tree: Tree = {}
        left_out: list[str] = []
        room = SIZE_LIMIT
        for mode, raw_path, object_id in self._entries(root, b""):
            path = readable(raw_path)
            reason = _refusal(mode, raw_path, path)
            if not reason:
                entry = self._file(object_id, executable=bool(mode & 0o100))
                room -= len(entry.data)
                if room < 0:
                    raise RegisterError(f"commit {commit[:12]} holds more than {SIZE_LIMIT >> 20} MiB")
                if entry.data.startswith(_LFS_POINTER) and len(entry.data) < 1024:
                    reason = "kept by git-lfs, not here"
                else:
                    tree[path] = entry
            if reason:
                left_out.append(f"{path} ({reason})")
        return tree, tuple(left_out)

    def _entries(self, folder: str, above: bytes) -> Iterator[tuple[int, bytes, str]]:
        """Yield mode, path and object id of every file below a folder."""
        if folder not in self._folders:
            self._folders[folder] = _folder(self.repository.read(folder), len(folder) // 2)
        for mode, name, object_id in self._folders[folder]:
            if mode == 0o040000:
                yield from self._entries(object_id, above + name + b"/")
            else:
                yield mode, above + name, object_id

    def _file(self, object_id: str, *, executable: bool) -> TreeFile:
        found = self._files.get((object_id, executable))
        if found is None:
            found = TreeFile(self.repository.read(object_id), executable)
            self._files[object_id, executable] = found
        return found


def open_history(source: str, *, timeout_s: float = HISTORY_S) -> History:
    """Open a repository by path or URL; a URL is cloned for the duration of the context. Raises
    RegisterError, in one line, for a path that is no repository or a history that is not whole.
    """
    repository = Repository(source, timeout_s=timeout_s)
    try:
        return History(repository, timeout_s=timeout_s)
    except BaseException:
        repository.close()
        raise


def readable(path: bytes) -> str:
    """Decode a path; bytes that are not UTF-8 become escapes."""
    return path.decode("utf-8", "backslashreplace")


def _refusal(mode: int, raw_path: bytes, path: str) -> str:
    """Return why an entry cannot be part of a tree, or an empty string."""
    if mode == 0o120000:
        return "a symbolic link"
    if mode == 0o160000:
        return "a submodule"
    if path.encode() != raw_path:
        return "a name that is not UTF-8"
    return "" if is_safe(path) else "a name outside the tree"


def _folder(data: bytes, id_bytes: int) -> list[tuple[int, bytes, str]]:
    """Parse a git tree object: a sequence of `<octal mode> <name>\\0<object id as bytes>`."""
    entries, at = [], 0
    while at < len(data):
        space, end = data.index(b" ", at), data.index(b"\0", at)
        object_id = data[end + 1 : end + 1 + id_bytes].hex()
        entries.append((int(data[at:space], 8), data[space + 1 : end], object_id))
        at = end + 1 + id_bytes
    return entries


def _changes(repository: Repository, timeout_s: float) -> Iterator[Change]:
    command = ("log", *_FIRST_PARENTS, "-z", "--raw", "--no-abbrev", "--no-renames")
    form = "--format=tformat:%H%x00%P%x00%ct%x00%B%x00"
    output = b"".join(repository.lines(*command, form, repository.head, timeout_s=timeout_s))
    authors = _authors(repository, timeout_s)
    tokens, at = output.split(b"\0"), 0
    while at + 4 < len(tokens):
        commit, parents, when, message = tokens[at : at + 4]
        at += 5  # an empty token ends the message
        files = []
        while at + 1 < len(tokens) and tokens[at].lstrip(b"\n").startswith(b":"):
            files.append(readable(tokens[at + 1]))
            at += 2
        # The author of a merge only merged: the work is by the author of the branch's last commit.
        line = [*parents.decode().split(), commit.decode()]
        author = authors.get(line[1 if len(line) > 2 else -1], "")
        yield _change(line, author, int(when), _utf8(message), tuple(files))


def _authors(repository: Repository, timeout_s: float) -> dict[str, str]:
    """Map every commit to its author's name."""
    command = ("log", "--no-show-signature", "--no-notes", "-z", "--format=%H %an", repository.head)
    rows = b"".join(repository.lines(*command, timeout_s=timeout_s)).split(b"\0")
    return dict(_utf8(row).split(" ", 1) for row in rows if b" " in row)


def _change(line: list[str], author: str, when: int, message: str, files: tuple[str, ...]) -> Change:
    """Make a change from a commit's parents, id and message."""
    *parents, commit = line
    subject, _, body = message.strip().partition("\n")
    title, body, number = _described(subject.strip(), body.strip())
    kind: Kind = "merge" if len(parents) > 1 else "commit" if number is None else "squash"
    return Change(
        commit=commit,
        base=parents[0] if parents else "",
        kind=kind,
        number=number,
        title=title or "(no title)",
        body=body,
        author=author,
        merged_at=datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        files=files,
    )


_GITHUB_MERGE = re.compile(r"Merge pull request #(\d+) from \S+$")
_GITLAB_LINE = re.compile(r"^See merge request \S*!(\d+)\s*$", re.MULTILINE)
_OTHER_MERGE = re.compile(r"(?:Merged in .*\(pull request #(\d+)\)|(?:Auto )?[Mm]erge (?:of )?#(\d+)\b.*)$")
_SQUASHED = re.compile(r"(.*?)\s*\((?:#|PR #|pull request #|!)(\d+)\)$")


def _described(subject: str, body: str) -> tuple[str, str, int | None]:
    """Return title, body and request number of a commit message; None without a number."""
    if gitlab := _GITLAB_LINE.search(body):
        body = _GITLAB_LINE.sub("", body).strip()
        if subject.startswith("Merge branch "):
            title, body = _first_line(body)
            subject = title or subject
        return subject, body, int(gitlab[1])
    if merged := _GITHUB_MERGE.match(subject) or _OTHER_MERGE.match(subject):
        title, body = _first_line(body)
        squashed = _SQUASHED.match(title)
        return (squashed[1] if squashed else title) or subject, body, int(next(filter(None, merged.groups())))
    if squashed := _SQUASHED.match(subject):
        return squashed[1] or subject, body, int(squashed[2])
    return subject, body, None


def _first_line(text: str) -> tuple[str, str]:
    line, _, rest = text.partition("\n")
    return line.strip(), rest.strip()


def _utf8(data: bytes) -> str:
    return data.decode("utf-8", "replace")
