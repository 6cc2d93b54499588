"""Fetch a library's source from a package index, a folder, or a git repository.

The result is a `Source`: the regular files, in memory. No code of the library runs.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from envs.tasksets.trees import Tree, TreeFile, is_safe, read_tree

from ..errors import RegisterError

FETCH_S = 120.0
"""Deadline for a response of the package index or the git server."""
SIZE_LIMIT = 64 * 1024 * 1024
"""Largest source that is read, in bytes."""
_MARKERS = ("pyproject.toml", "setup.py", "setup.cfg")


@dataclass(frozen=True)
class Source:
    """A library's files and their provenance.

    Example: `Source("six", "1.16.0", "pypi:six==1.16.0", {"six.py": TreeFile(b"…")})`.
    """

    name: str
    version: str
    origin: str
    """The argument of `fetch_source` for the same source: `pypi:NAME==VERSION`, a path, or a URL."""
    tree: Tree
    commit: str = ""
    left_out: tuple[str, ...] = ()
    """Paths of omitted entries: symbolic links, submodules, unsafe paths."""


def fetch_source(text: str, *, timeout_s: float = FETCH_S) -> Source:
    """Fetch `pypi:NAME[==VERSION]`, a folder, a git repository (tracked files at HEAD) or a git URL.

    Raises RegisterError when the fetch fails or the source is not a Python project.
    """
    if text.startswith("pypi:"):
        source = _from_index(text.removeprefix("pypi:").strip(), timeout_s)
    elif "://" in text or re.match(r"[\w.-]+@[\w.-]+:", text):
        source = _from_url(text, timeout_s)
    elif Path(text).is_dir():
        source = _from_folder(Path(text).resolve(), text)
    else:
        raise RegisterError(
            f"there is no folder {text!r}; a source is pypi:NAME==VERSION, a folder, or a git URL"
        )
    if not any(name in source.tree for name in _MARKERS):
        raise RegisterError(f"{text} is not a Python project: it has none of {', '.join(_MARKERS)}")
    if not any(name.endswith(".py") and name != "setup.py" for name in source.tree):
        raise RegisterError(f"{text} is not a Python project: it has no Python files")
    return source


def _from_index(requirement: str, timeout_s: float) -> Source:
    with tempfile.TemporaryDirectory(prefix="daythree-source-") as folder:
        script = Path(__file__).with_name("sdist.py")
        answer = _ask_index([sys.executable, str(script), folder, requirement], requirement, timeout_s)
        tree, left_out = _unpack(Path(answer["file"]), requirement)
    origin = f"pypi:{answer['name']}=={answer['version']}"
    return Source(answer["name"], answer["version"], origin, tree, left_out=left_out)


def _ask_index(command: list[str], requirement: str, timeout_s: float) -> dict[str, str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        raise RegisterError(
            f"the package index did not answer within {timeout_s:.0f} s; check the network and pip's settings"
        ) from None
    last_line = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
    if done.returncode:
        hint = (
            "install pip beside daythree" if "No module named 'pip'" in last_line else "check pip's settings"
        )
        raise RegisterError(f"{requirement} could not be fetched ({last_line[:200]}); {hint}")
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    reason = answer.get("error")
    if reason in ("unknown", "no source") and re.search(r"Could not fetch URL (?!.*\b404\b)", done.stderr):
        raise RegisterError("the package index cannot be reached; check the network and pip's settings")
    sentences = {
        "malformed": f"{requirement!r} is not a package requirement; write pypi:NAME==VERSION",
        "unknown": f"the package index does not know {requirement}; check the spelling",
        "no source": f"{requirement} has no source distribution, only built ones; use its repository instead",
        "no such version": f"there is no source distribution for {requirement}; try without the version",
        "digest": f"the archive of {requirement} is not what the index promised; try again",
    }
    if reason:
        raise RegisterError(sentences[reason])
    return answer


def _unpack(archive: Path, requirement: str) -> tuple[Tree, tuple[str, ...]]:
    """Read an archive's regular files, with paths relative to the archive's single top folder."""
    try:
        entries = list(_zip_entries(archive) if archive.suffix == ".zip" else _tar_entries(archive))
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise RegisterError(f"the archive of {requirement} is damaged: {error}") from error
    tree: Tree = {}
    left_out = []
    for name, file in entries:
        inner = "/".join(PurePosixPath(name).parts[1:])
        if "__pycache__" in PurePosixPath(inner).parts:
            continue
        if file is not None and is_safe(inner):
            tree[inner] = file
        elif inner:
            left_out.append(inner)
    return tree, tuple(left_out)


def _tar_entries(archive: Path) -> Iterator[tuple[str, TreeFile | None]]:
    room = SIZE_LIMIT
    with tarfile.open(archive) as opened:
        for info in opened:
            if info.isdir():
                continue
            room -= info.size
            _check_room(room)
            content = opened.extractfile(info) if info.isreg() else None
            file = TreeFile(content.read(), executable=bool(info.mode & 0o100)) if content else None
            yield info.name, file


def _zip_entries(archive: Path) -> Iterator[tuple[str, TreeFile | None]]:
    room = SIZE_LIMIT
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            if info.is_dir():
                continue
            room -= info.file_size
            _check_room(room)
            mode = info.external_attr >> 16
            is_link = mode & 0o170000 == 0o120000
            yield (
                info.filename,
                None if is_link else TreeFile(opened.read(info), executable=bool(mode & 0o100)),
            )


def _check_room(room: int) -> None:
    if room < 0:
        raise RegisterError(f"the source is larger than {SIZE_LIMIT >> 20} MiB; choose a smaller library")


def _from_url(url: str, timeout_s: float) -> Source:
    from git import GitCommandError, GitError, Repo

    with tempfile.TemporaryDirectory(prefix="daythree-source-") as folder:
        try:
            repository = Repo.clone_from(
                url,
                folder,
                multi_options=["--depth=1", "--no-tags", "--single-branch"],
                env={"GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1"},
                kill_after_timeout=timeout_s,
            )
            with repository:
                return _from_head(repository, _name_of(url), url)
        except (GitError, GitCommandError, ValueError) as error:
            reason = _reason(getattr(error, "stderr", "") or str(error))
            raise RegisterError(f"{url} could not be cloned ({reason}); check the address") from error


def _from_folder(folder: Path, text: str) -> Source:
    from git import GitError, InvalidGitRepositoryError, Repo

    try:
        with Repo(folder) as repository:
            if not repository.head.is_valid():
                raise RegisterError(f"the git repository {text} has no commit yet; commit its files first")
            return _from_head(repository, folder.name, text)
    except InvalidGitRepositoryError:
        return _from_plain_folder(folder, text)
    except (GitError, ValueError) as error:
        raise RegisterError(f"the git repository {text} cannot be read: {_reason(str(error))}") from error


def _from_head(repository, name: str, origin: str) -> Source:
    tree: Tree = {}
    left_out = []
    room = SIZE_LIMIT
    commit = repository.head.commit
    for entry in commit.tree.traverse():
        if entry.type == "tree":
            continue
        path = str(entry.path)
        if entry.type != "blob" or entry.mode == 0o120000 or not is_safe(path):
            left_out.append(path)
            continue
        room -= entry.size
        _check_room(room)
        tree[path] = TreeFile(entry.data_stream.read(), executable=bool(entry.mode & 0o100))
    return Source(name, commit.hexsha[:12], origin, tree, commit.hexsha, tuple(sorted(left_out)))


def _from_plain_folder(folder: Path, text: str) -> Source:
    names, left_out, room = [], [], SIZE_LIMIT
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _is_clutter(name))
        for name in sorted(files):
            path = Path(root) / name
            relative = path.relative_to(folder).as_posix()
            if path.is_symlink() or not path.is_file():
                left_out.append(relative)
                continue
            room -= path.stat().st_size
            _check_room(room)
            names.append(relative)
    return Source(folder.name, "0", text, read_tree(folder, only=names), left_out=tuple(left_out))


def _is_clutter(name: str) -> bool:
    """Whether a folder holds generated files: caches, virtual environments, git's own data."""
    return name in (".git", "__pycache__", ".venv", "venv", "node_modules", ".tox") or name.endswith("_cache")


def _name_of(url: str) -> str:
    return url.rstrip("/").rsplit("/", 1)[-1].removesuffix(".git")


def _reason(text: str) -> str:
    lines = [line.strip(" '\"") for line in text.splitlines() if line.strip(" '\"")]
    fatal = [line.removeprefix("fatal: ") for line in lines if line.startswith("fatal: ")]
    return (fatal or lines or ["git said nothing"])[0][:200]
