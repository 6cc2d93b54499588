"""The sandbox contract: run commands and touch files somewhere isolated.

A *sandbox* is an isolated place with a file system and processes. This module holds the words every
backend shares; it knows nothing of tasks, tools or models.

The rule the whole system rests on: a failing **command** is an ordinary `ExecResult`, a failing
**sandbox** is a `SandboxError`. The first is something the policy did and may learn from, the second is
not, and must never become a reward.

    SandboxError
    ├── SandboxUnavailable   it could not be started: no image, no space
    │   └── EngineSilent     no engine answered: it is gone, or being restarted
    ├── SandboxLost          it was there and is gone: killed, engine restarted, channel cut
    └── SandboxUnresponsive  it is there and did not answer before the deadline
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
    """No engine answered. It may be back in a moment."""


class SandboxLost(SandboxError):
    """The sandbox went away while it was in use."""


class SandboxUnresponsive(SandboxError):
    """The sandbox did not answer before its deadline."""


@dataclass(frozen=True)
class SandboxSpec:
    """What a sandbox is made of and what it may use. Hashable, so that pools can key on it."""

    image: str
    """Name of an image made by `sandboxes.images.build`; every backend resolves it its own way."""
    workdir: str = "/workspace"
    """Absolute path of the writable working directory; relative paths start here."""
    cpus: float = 1.0
    memory_mb: int = 1024
    pids: int = 256
    disk_mb: int = 512
    """Size of the writable working directory. `/tmp` gets the same."""
    open_files: int = 4096
    """Descriptors that one process may have."""
    network: bool = False
    user: str = "1000:1000"
    """Numeric `uid:gid` of everything that runs inside."""
    env: tuple[tuple[str, str], ...] = ()
    lifetime_s: float = 3600.0
    """The sandbox ends itself after this long, whatever its owner does."""
    role: Literal["work", "grading"] = "work"
    """Whose processes it is for. One that has held a policy's commands is never one for grading."""

    template: tuple[str, ...] = field(default=(), repr=False)
    """A command that is started once, before any other and under a user of its own, and waits to be forked
    (`sandboxes.inside.template`). Empty: none."""

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
    """What lies in a sandbox before its first command. Equal keys promise equal content.

    What was read from `archive` may be kept for other sandboxes as long as any `Content` of this key lives.
    """

    key: str
    """A digest, or a name that is used once."""
    archive: Callable[[], bytes] = field(compare=False, repr=False)
    """Makes an uncompressed tar archive of the working directory; asked where it is not there already."""
    scratch: Callable[[], bytes] | None = field(default=None, compare=False, repr=False)
    """The same for `/tmp`; None when that is empty."""


@dataclass(frozen=True)
class BackgroundProcess:
    """A process that goes on although the command that started it has ended."""

    pid: int
    name: str
    """What it calls itself, at most 15 bytes."""


Limit = Literal["memory", "pids", "disk", "files", "time", "output"]


@dataclass(frozen=True)
class ExecResult:
    """What a command did. Bytes that are not UTF-8 arrive as U+FFFD."""

    exit_code: int | None
    """None exactly when the command was killed at its deadline; 127 when it could not be found."""
    stdout: str
    stderr: str
    timed_out: bool = False
    truncated: bool = False
    """Output went over the limit and was cut in the middle."""
    duration_s: float = 0.0
    report: bytes = b""
    """What the command wrote to the report descriptor, see `Sandbox.exec`."""
    limit: Limit | None = None
    """Which limit of the sandbox, or of the call, it ran into: a process of it was killed for want of memory,
    was refused another process, filled a disk, had too many files open, was killed at its deadline, or
    printed more than was kept. The first of these that holds. Of commands that run side by side, each is
    told.
    """
    background: tuple[BackgroundProcess, ...] = ()
    """What this command and those before it left running."""
    forked: bool = False
    """It was a fork of the sandbox's template."""

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
    """How a directory differs from a known one. Paths are relative to the directory."""

    written: Mapping[str, bytes] = field(default_factory=dict)
    """Regular files that are new or hold other bytes."""
    executable: frozenset[str] = frozenset()
    """Those of `written` that carry the owner's execute bit."""
    removed: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Entries that do not travel, each with its reason: `symlink`, `special` (also a name that is not
    UTF-8), `unreadable`, `too large`, `too many`. Folders end in a slash; `...` is what was not looked at."""


class OnClose(Protocol):
    """What a lent handle calls when its user closes it. Neither raises nor waits."""

    def __call__(self, sandbox: Sandbox, *, sound: bool) -> None:
        """Get the sandbox back, under a new handle. `sound`: no call was under way, and none had failed."""
        ...


@runtime_checkable
class Sandbox(Protocol):
    """A handle of an isolated file system with processes. After `close`, its methods raise `SandboxLost`.

    Every method takes `timeout_s`, the seconds within which it answers or raises, and may raise
    `SandboxLost` or `SandboxUnresponsive`. Methods may be called from several threads at once.
    Relative paths start at `spec.workdir`.
    """

    spec: SandboxSpec
    on_close: OnClose | None
    """None, or what `close` calls in place of ending the sandbox: a pool sets it to lend a sandbox out."""

    def ping(self, *, timeout_s: float) -> None:
        """Ask for a sign of life."""
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
        """Run a command to its end and return what it did.

        A string runs in `sh -c`, a sequence runs as it is. At `timeout_s` the command's process group and
        everything that detached from it is killed inside, and what it printed until then is kept. stdout and
        stderr keep their first and last `output_limit / 2` bytes each. With `report`, the command finds an
        open descriptor's number in `DAYTHREE_REPORT_FD` (a shell reaches it as `/dev/fd/N`); what it writes
        there, at most 16 MiB, comes back apart from its output. A command that cannot be found gives exit
        code 127, one that cannot be started 126, one killed by a signal 128 more than the signal's number.
        With `forked`, the sandbox's template (`spec.template`) goes on in a fork of itself in the command's
        place; the command runs only where no template answers.
        Processes left in the background are named in the result and live on until the sandbox is closed; of a
        command that was refused another process, none does.
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
        """Put content into a sandbox that has been given none, before its first command."""
        ...

    def snapshot(self, *, timeout_s: float) -> Content:
        """Its working directory and `/tmp` as they are now, to be opened with any number of times.

        Nothing is copied where the backend can do without. Calls that are under way are waited for, others
        held back meanwhile; what runs in the background is stopped, and goes on. Processes, `/dev/shm`,
        sockets and the like are no part of it. The sandbox goes on, and what it writes is its own.
        """
        ...

    def changes(
        self, path: str, known: Mapping[str, str], *, timeout_s: float, file_limit: int = 1_048_576
    ) -> TreeChanges:
        """Compare a directory with `known`, relative path to SHA-256 hex digest of every regular file.

        `.git` and `__pycache__` folders are left out. Files over `file_limit` bytes are skipped, and so
        is what comes after 1,000 changed files.
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
        """End this handle as `close` does, and return the same sandbox, blank, under a new one.

        Blank is: as it was opened without content, and with its whole lifetime before it. Nothing that was
        done in it can be found, except how much it was: what the kernel counts (`docs/isolation.md`).
        None when that cannot be proven, or a call was under way; then it has been closed. Never raises.
        """
        ...

    def close(self) -> None:
        """End it with all its processes, or give it back (`on_close`). Safe to call twice; never raises."""
        ...
