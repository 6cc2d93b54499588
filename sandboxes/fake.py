"""A sandbox in memory, for tests and dry runs: real files, scripted commands, failures on demand.

Isolates nothing and starts no process. File operations keep the contract, as
`sandboxes.conformance.commands` checks; a Python callable given to the fake decides what a command does.
"""

# ruff: noqa: ARG001, ARG002
from __future__ import annotations

import copy
import hashlib
import io
import posixpath
import re
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from uuid import uuid4

from .base import Content, ExecResult, Match, OnClose, SandboxLost, SandboxSpec, TreeChanges
from .images.recipe import ImageRecipe
from .progress import Progress, silent
from .remote.gate import Gate

Files = dict[str, bytes]
"""Absolute path to content."""
Run = Callable[[str | Sequence[str], Files], ExecResult]
"""Plays a command: may read and change the files, and returns the result."""

CHANGED_FILES_LIMIT = 1_000
LEFT_OUT = {".git", "__pycache__"}


def succeed(command: str | Sequence[str], files: Files) -> ExecResult:
    """A command that does nothing and exits with 0."""
    return ExecResult(0, "", "")


class FakeSandbox:
    """An in-memory sandbox. `calls` records the names of the called methods, in order."""

    def __init__(
        self,
        spec: SandboxSpec,
        files: Mapping[str, bytes] | None = None,
        *,
        run: Run = succeed,
        fail_at: int | None = None,
    ) -> None:
        """`files` are relative to `spec.workdir`, or absolute. Every call from number `fail_at` on raises."""
        self.spec = spec
        self.files: Files = {}
        self.executable: set[str] = set()
        self.folders: set[str] = {"/"}
        self.calls: list[str] = []
        self.on_close: OnClose | None = None
        self.closed = False
        """Whether calls are lost: this handle has ended, or the sandbox is gone."""
        self._run = run
        self._fail_at = fail_at
        self.successor: FakeSandbox | None = None
        """The next handle of this sandbox, once it was recycled or given back."""
        self._blank = dict(files or {})
        self._gate = Gate("the fake sandbox")
        self._lock = threading.RLock()
        self._make_folder(spec.workdir)
        for path, data in (files or {}).items():
            self._put(self._resolve(path), data)

    def ping(self, *, timeout_s: float) -> None:
        with self._call("ping"):
            pass

    def exec(
        self,
        command: str | Sequence[str],
        *,
        timeout_s: float,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        output_limit: int = 65_536,
        report: bool = False,
        forked: bool = False,
    ) -> ExecResult:
        with self._call("exec"):
            return self._run(command, self.files)

    def read(self, path: str, *, timeout_s: float, offset: int = 0, limit: int | None = None) -> bytes:
        with self._call("read"):
            data = self._file(self._resolve(path))
            return data[offset:] if limit is None else data[offset : offset + limit]

    def write(self, path: str, data: bytes, *, timeout_s: float, executable: bool = False) -> None:
        with self._call("write"):
            if path.endswith("/"):
                raise IsADirectoryError(f"Is a directory: {path}")
            self._put(self._resolve(path), data)
            if executable:
                self.executable.add(self._resolve(path))

    def listdir(self, path: str, *, timeout_s: float) -> list[str]:
        with self._call("listdir"):
            root = self._resolve(path)
            if root in self.files:
                raise NotADirectoryError(f"Not a directory: {root}")
            if root not in self._all_folders():
                raise FileNotFoundError(f"No such file or directory: {root}")
            start = root.rstrip("/") + "/"
            inside = {entry for entry in self._all_folders() if entry.startswith(start) and entry != start}
            names = {f"{entry[len(start) :].partition('/')[0]}/" for entry in inside}
            names |= {file[len(start) :] for file in self.files if posixpath.dirname(file) == root}
            return sorted(names)

    def unpack(self, archive: bytes, path: str, *, timeout_s: float) -> None:
        with self._call("unpack"):
            root = self._resolve(path)
            self._make_folder(root)
            with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
                for member in tar:
                    self._lay_member(root, member, tar)

    def lay(self, content: Content, *, timeout_s: float) -> None:
        self.unpack(content.archive(), ".", timeout_s=timeout_s)
        if content.scratch is not None:
            self.unpack(content.scratch(), "/tmp", timeout_s=timeout_s)

    def snapshot(self, *, timeout_s: float) -> Content:
        with self._call("snapshot"):
            archives = [self._packed(self.spec.workdir), self._packed("/tmp")]
        return Content(f"snapshot-{uuid4().hex}", lambda: archives[0], lambda: archives[1])

    def _packed(self, root: str) -> bytes:
        start, buffer = root.rstrip("/") + "/", io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for path in sorted(path for path in self._all_folders() if path.startswith(start)):
                folder = tarfile.TarInfo(path[len(start) :])
                folder.type = tarfile.DIRTYPE
                archive.addfile(folder)
            for path in sorted(path for path in self.files if path.startswith(start)):
                info = tarfile.TarInfo(path[len(start) :])
                info.size, info.mode = len(self.files[path]), 0o755 if path in self.executable else 0o644
                archive.addfile(info, io.BytesIO(self.files[path]))
        return buffer.getvalue()

    def _lay_member(self, root: str, member: tarfile.TarInfo, tar: tarfile.TarFile) -> None:
        place = posixpath.normpath(posixpath.join(root, member.name))
        if place != root and not place.startswith(root.rstrip("/") + "/"):
            raise ValueError(f"archive member {member.name!r} lies outside of its folder")
        if member.isdir():
            self._make_folder(place)
            return
        content = tar.extractfile(member) if member.isreg() else None
        if content is None:
            raise ValueError(f"archive member {member.name!r} is neither file nor folder")
        self._put(place, content.read())
        if member.mode & 0o100:
            self.executable.add(place)
        else:
            self.executable.discard(place)

    def changes(
        self, path: str, known: Mapping[str, str], *, timeout_s: float, file_limit: int = 1_048_576
    ) -> TreeChanges:
        with self._call("changes"):
            written: dict[str, bytes] = {}
            skipped: dict[str, str] = {}
            seen = set()
            for name, full in self._below(self._resolve(path)):
                seen.add(name)
                data = self.files[full]
                if hashlib.sha256(data).hexdigest() == known.get(name):
                    continue
                if len(data) > file_limit:
                    skipped[name] = "too large"
                elif len(written) >= CHANGED_FILES_LIMIT:
                    skipped[name] = "too many"
                else:
                    written[name] = data
            root = self._resolve(path)
            marked = frozenset(
                name for name in seen - skipped.keys() if posixpath.join(root, name) in self.executable
            )
            return TreeChanges(written, marked, tuple(sorted(set(known) - seen)), skipped)

    def search(
        self,
        pattern: str,
        *,
        timeout_s: float,
        path: str = ".",
        regex: bool = False,
        glob: str | None = None,
        limit: int = 100,
    ) -> list[Match]:
        with self._call("search"):
            try:
                found = re.compile(pattern if regex else re.escape(pattern))
            except re.error as error:
                raise ValueError(f"regex parse error: {error}") from None
            root = self._resolve(path)
            if root not in self.files and root not in self._all_folders():
                raise FileNotFoundError(f"No such file or directory: {root}")
            places = [(posixpath.basename(root), root)] if root in self.files else list(self._below(root))
            matches = []
            for name, full in places:
                if glob is None or fnmatch(name if "/" in glob else posixpath.basename(name), glob):
                    matches += [Match(name, *row) for row in matching_lines(self.files[full], found)]
            return matches[:limit]

    def recycled(self, *, timeout_s: float) -> FakeSandbox | None:
        end = self._gate.end()
        if end == "ended already":
            return None
        dead, self.closed = self.closed or end == "unsound", True
        if dead:
            self._give_back(sound=False)
            return None
        self.successor = type(self)(self.spec, self._blank, run=self._run, fail_at=self._fail_at)
        self.successor.on_close = self.on_close
        return self.successor

    def shut(self) -> None:
        """End the sandbox whichever handle is valid now; for its backend."""
        self.closed = True
        if self.successor is not None:
            self.successor.shut()

    def close(self) -> None:
        end = self._gate.end()
        if end != "ended already":
            dead, self.closed = self.closed, True
            self._give_back(sound=end == "sound" and not dead)

    def _give_back(self, *, sound: bool) -> None:
        if self.on_close is None:
            return
        following = copy.copy(self)
        following.on_close, following._gate, following.closed = None, Gate("the fake sandbox"), not sound
        self.successor = following
        self.on_close(following, sound=sound)

    @contextmanager
    def _call(self, name: str) -> Iterator[None]:
        with self._gate.call(time.monotonic()), self._lock:
            self.calls.append(name)
            if self.closed:
                raise SandboxLost("the fake sandbox was closed")
            if self._fail_at is not None and len(self.calls) >= self._fail_at:
                raise SandboxLost(f"the fake sandbox is gone, as planned for call {self._fail_at}")
            yield

    def _resolve(self, path: str) -> str:
        return posixpath.normpath(posixpath.join(self.spec.workdir, path))

    def _file(self, path: str) -> bytes:
        if path in self.files:
            return self.files[path]
        if path in self._all_folders():
            raise IsADirectoryError(f"Is a directory: {path}")
        raise FileNotFoundError(f"No such file or directory: {path}")

    def _put(self, path: str, data: bytes) -> None:
        if path in self._all_folders():
            raise IsADirectoryError(f"Is a directory: {path}")
        self._make_folder(posixpath.dirname(path))
        self.files[path] = bytes(data)

    def _make_folder(self, path: str) -> None:
        while path not in self.folders:
            if path in self.files:
                raise NotADirectoryError(f"Not a directory: {path}")
            self.folders.add(path)
            path = posixpath.dirname(path)

    def _all_folders(self) -> set[str]:
        """Return folders made by calls, and folders of files that commands wrote."""
        found = set(self.folders)
        for file in self.files:
            folder = posixpath.dirname(file)
            while folder not in found:
                found.add(folder)
                folder = posixpath.dirname(folder)
        return found

    def _below(self, root: str) -> Iterator[tuple[str, str]]:
        """(relative, absolute) path of every file below a folder, in the order of a walk."""
        start = root.rstrip("/") + "/"
        for parts, file in sorted((file[len(start) :].split("/"), file) for file in self.files):
            if file.startswith(start) and not LEFT_OUT & set(parts[:-1]):
                yield "/".join(parts), file


def matching_lines(data: bytes, found: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    """(number, text) of a text file's lines."""
    if b"\0" in data[:8192]:
        return
    for number, line in enumerate(data.decode("utf-8", "replace").split("\n"), 1):
        if found.search(line):
            yield number, line.rstrip("\r")[:1_000]


class FakeBackend:
    """Opens `FakeSandbox`es with the same files; every image exists. `opened` lists them in order."""

    name = "fake"

    def __init__(
        self, files: Mapping[str, bytes] | None = None, *, run: Run = succeed, fail_at: int | None = None
    ) -> None:
        self.opened: list[FakeSandbox] = []
        self.ensured: list[str] = []
        self._files = dict(files or {})
        self._run = run
        self._fail_at = fail_at

    def open(self, spec: SandboxSpec, *, timeout_s: float, content: Content | None = None) -> FakeSandbox:
        sandbox = FakeSandbox(spec, self._files, run=self._run, fail_at=self._fail_at)
        self.opened.append(sandbox)
        if content is not None:
            sandbox.lay(content, timeout_s=timeout_s)
        return sandbox

    def expect(self, spec: SandboxSpec, count: int = 1) -> None:
        pass

    def ensure_image(self, recipe: ImageRecipe, *, timeout_s: float, progress: Progress = silent) -> str:
        progress(f"building {recipe.ref}", 1, 1)
        self.ensured.append(recipe.ref)
        return recipe.ref

    def has_image(self, ref: str) -> bool:
        return True

    def reap(self) -> list[str]:
        return []

    def close(self) -> None:
        for sandbox in self.opened:
            sandbox.shut()
