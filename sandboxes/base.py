"""The sandbox contract: run commands and touch files in an isolated place.

A *sandbox* is an isolated file system with processes. This module defines the types that all backends
share; it knows nothing of tasks, tools or models.

One rule holds everywhere: a failing **command** is an ordinary `ExecResult`, a failing **sandbox** is a
`SandboxError`. The policy causes the first and may learn from it. It does not cause the second, which
must therefore never become a reward.

    SandboxError
    ├── SandboxUnavailable   the sandbox could not be started: no image, no space
    │   └── EngineSilent     no engine answered: it is down, or restarting
    ├── SandboxLost          a running sandbox is gone: killed, engine restarted, channel cut
    └── SandboxUnresponsive  a running sandbox did not answer before the deadline

    result = sandbox.exec("pytest -q", timeout_s=60)
    # ExecResult(exit_code=1, stdout="1 failed, 1 passed", stderr="", timed_out=False, limit=None)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable


class SandboxError(Exception):
    """The sandbox failed, not the command. Takes one sentence, so that it pickles."""


class SandboxUnavailable(SandboxError):
    """The sandbox could not be started."""


class EngineSilent(SandboxUnavailable):
    """No engine answered. Worth a retry: an engine that restarts is back in a moment."""


class SandboxLost(SandboxError):
    """The sandbox went away while it was in use."""


class SandboxUnresponsive(SandboxError):
    """The sandbox did not answer before its deadline."""


@dataclass(frozen=True)
class SandboxSpec:
    """A sandbox's image and limits. Hashable, because pools key on the spec."""

    image: str
    """Name of an image made by `sandboxes.images.build`; each backend resolves the name in its own way."""
    workdir: str = "/workspace"
    """Absolute path of the writable working directory; relative paths start here."""
    cpus: float = 1.0
    memory_mb: int = 1024
    pids: int = 256
    disk_mb: int = 512
    """Size of the writable working directory. `/tmp` gets the same."""
    open_files: int = 4096
    """Limit of file descriptors per process."""
    network: bool = False
    user: str = "1000:1000"
    """Numeric `uid:gid` of everything that runs inside."""
    env: tuple[tuple[str, str], ...] = ()
    lifetime_s: float = 3600.0
    """The sandbox ends itself after this time, whatever its owner does."""
    role: Literal["work", "grading"] = "work"
    """Part of the pool's key, so that a sandbox that ran a policy's commands is never reused for grading."""

    template: tuple[str, ...] = field(default=(), repr=False)
    """A command started once, before all others and under its own user, that waits to be forked
    (`sandboxes.inside.template`). Empty: no template."""

    def __post_init__(self) -> None:
        assert self.workdir.startswith("/"), f"workdir must be absolute, got {self.workdir!r}"
        assert (
            self.cpus > 0
            and self.memory_mb > 0
            and self.pids > 0
            and self.disk_mb > 0
            and self.open_files >= 256
        ), f"limits must be positive: {self}"


@dataclass(frozen=True)
class Content:
    """The files in a sandbox before its first command. Equal keys promise equal files.

        Content("9f3c…", archive=lambda: pack(tree))  # called only when nothing is cached for the key

    A backend may cache the unpacked archive as long as any `Content` of this key is alive.
    """

    key: str
    """A digest of the files, or a name that is used once."""
    archive: Callable[[], bytes] = field(compare=False, repr=False)
    """Makes an uncompressed tar archive of the working directory; called when no cached copy exists."""
    scratch: Callable[[], bytes] | None = field(default=None, compare=False, repr=False)
    """The same for `/tmp`; None when `/tmp` starts empty."""


@dataclass(frozen=True)
class BackgroundProcess:
    """A process that is still running after the command that started it has ended."""

    pid: int
    name: str
    """The kernel's name of the process (`comm`), at most 15 bytes."""


Limit = Literal["memory", "pids", "disk", "files", "time", "output"]


@dataclass(frozen=True)
class ExecResult:
    """The outcome of one command. Output bytes that are not UTF-8 become U+FFFD."""

    exit_code: int | None
    """None exactly when the command was killed at its deadline; 127 when the program was not found."""
    stdout: str
    stderr: str
    timed_out: bool = False
    truncated: bool = False
    """Whether output exceeded the limit and was cut in the middle."""
    duration_s: float = 0.0
    report: bytes = b""
    """Bytes that the command wrote to the report descriptor (`Sandbox.exec`)."""
    limit: Limit | None = None
    """The limit that the command ran into: a process was killed for lack of memory, a fork was refused, a
    disk was full, too many files were open, the deadline passed, or output was cut. If several apply,
    the first in this order. Commands that run concurrently share these counters, so each of them
    reports the limit."""
    background: tuple[BackgroundProcess, ...] = ()
    """Processes that this command and earlier ones left running."""
    forked: bool = False
    """Whether the command ran in a fork of the sandbox's template."""

    def __post_init__(self) -> None:
        assert (self.exit_code is None) == self.timed_out, "no exit code exactly when timed out"


@dataclass(frozen=True)
class Match:
    """One line found by `Sandbox.search`."""

    path: str
    """Relative to the root that was searched."""
    line: int
    """Counted from 1."""
    text: str


@dataclass(frozen=True)
class TreeChanges:
    """The difference between a directory and a known state. Paths are relative to the directory."""

    written: Mapping[str, bytes] = field(default_factory=dict)
    """Regular files that are new or have other content."""
    executable: frozenset[str] = frozenset()
    """Those of the written and of the unchanged files that have the owner's execute bit."""
    removed: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Entries that cannot be transferred, each with the reason: `symlink`, `special` (also a name that is
    not UTF-8), `unreadable`, `too large`, `too many`. Folders end in a slash; `...` stands for all that
    was not read."""


class OnClose(Protocol):
    """Callback that a lent handle runs in place of ending the sandbox. Neither raises nor waits."""

    def __call__(self, sandbox: Sandbox, *, sound: bool) -> None:
        """Take the sandbox back under a new handle. `sound`: no call was in flight, and none had failed."""
        ...


@runtime_checkable
class Sandbox(Protocol):
    """A handle of an isolated file system with processes. After `close`, its methods raise `SandboxLost`.

    Every method takes `timeout_s`, the seconds within which it returns or raises, and may raise
    `SandboxLost` or `SandboxUnresponsive`. All methods are thread-safe.
    Relative paths start at `spec.workdir`.
    """

    spec: SandboxSpec
    on_close: OnClose | None
    """Called by `close` in place of ending the sandbox, or None. A pool sets it on the handles it lends."""

    def ping(self, *, timeout_s: float) -> None:
        """Check that the sandbox answers."""
        ...

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
        """Run a command to its end and return its result.

        A string runs in `sh -c`, a sequence runs directly. At `timeout_s` the command's process group and all
        detached descendants are killed inside the sandbox; output up to that point is kept. stdout and stderr
        keep their first and last `output_limit / 2` bytes each. With `report`, the command finds the number
        of an open descriptor in `DAYTHREE_REPORT_FD` (in a shell: `/dev/fd/N`); bytes written there, at most
        16 MiB, are returned apart from the output. Exit code 127: the program was not found; 126: it could
        not be started; 128 + n: it was killed by signal n. With `forked`, a fork of the sandbox's template
        (`spec.template`) runs in place of the command; the command itself runs only when no template answers.
        Background processes are named in the result and live until the sandbox is closed, except after a
        command that was refused a fork: its background processes are killed.
        """
        ...

    def read(self, path: str, *, timeout_s: float, offset: int = 0, limit: int | None = None) -> bytes:
        """Return a file's bytes. Raises FileNotFoundError, IsADirectoryError, PermissionError."""
        ...

    def write(self, path: str, data: bytes, *, timeout_s: float, executable: bool = False) -> None:
        """Write a file, making its folders. Raises IsADirectoryError, PermissionError, OSError when full."""
        ...

    def listdir(self, path: str, *, timeout_s: float) -> list[str]:
        """Return a directory's entries, sorted, folders with a trailing slash.

        Raises FileNotFoundError, NotADirectoryError, PermissionError.
        """
        ...

    def unpack(self, archive: bytes, path: str, *, timeout_s: float) -> None:
        """Lay an uncompressed tar archive over a directory, making it where it is missing."""
        ...

    def lay(self, content: Content, *, timeout_s: float) -> None:
        """Put content into an empty sandbox, before its first command."""
        ...

    def snapshot(self, *, timeout_s: float) -> Content:
        """Return the current working directory and `/tmp` as content for any number of new sandboxes.

        Copy-free where the backend supports overlays. Waits for calls in flight and holds back new ones;
        background processes are stopped meanwhile and then continue. Processes, `/dev/shm` and sockets are
        not part of a snapshot. This sandbox stays usable, and its later writes do not reach the snapshot.
        """
        ...

    def changes(
        self, path: str, known: Mapping[str, str], *, timeout_s: float, file_limit: int = 1_048_576
    ) -> TreeChanges:
        """Compare a directory with `known`: relative path to SHA-256 hex digest of every regular file.

        `.git` and `__pycache__` folders are left out. Files over `file_limit` bytes are skipped, and so is
        everything after 1,000 changed files: changes of known files come first, then new files, and last new
        files in hidden folders and in those that builds fill, such as `build`.
        """
        ...

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
        """Find lines in text files, by path then line, at most `limit`.

        `.git` and `__pycache__` are left out. Raises ValueError for a regular expression that does not
        parse, FileNotFoundError for a missing path, TimeoutError when the search itself takes too long.
        """
        ...

    def recycled(self, *, timeout_s: float) -> Sandbox | None:
        """End this handle as `close` does, and return the same sandbox, blank, under a new handle.

        Blank means: as opened without content, with the full lifetime ahead. Nothing of the earlier use can
        be observed except counters that the kernel keeps (`docs/isolation.md`). Returns None, with the
        sandbox closed, when blankness cannot be proven or a call was in flight. Never raises.
        """
        ...

    def close(self) -> None:
        """End the sandbox and its processes, or hand it to `on_close`. Idempotent, never raises."""
        ...
