"""Read the objects of a git repository through an empty repository that borrows the source's object folder.

The source's configuration has no effect: no hooks, filters, attributes, replaced objects or file system
monitor, and no check of the folder's owner. Shallow and grafted repositories are refused, because
their parents are not the real ones.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE
from typing import Any

from git import GitCommandError, GitError, Repo
from git.cmd import Git

from envs.tasksets.trees import GIT_ENV

from ..errors import RegisterError

READ_S = 60.0
"""Deadline for reading one object or for one git command."""
_ENV = {**GIT_ENV, "GIT_NO_REPLACE_OBJECTS": "1", "GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0"}


class Repository:
    """Git commands and objects of a repository, whose newest commit is `head`. Thread-safe."""

    def __init__(self, source: str, *, timeout_s: float) -> None:
        """Open a work tree, a bare repository, or a clone of a URL. Raises RegisterError."""
        self.name = _name_of(source)
        self.source = re.sub(r"(?<=://)[^/@]+@", "", source)
        """The path or URL that was opened, without a password."""
        self.scratch = Path(tempfile.mkdtemp(prefix="daythree-history-"))
        """Folder for the clone and the borrowing repository; removed by `close`."""
        self._lock = threading.Lock()
        self._reader: Any = None
        try:
            self._open(source, time.monotonic() + timeout_s)
        except BaseException:
            self.close()
            raise

    def _open(self, source: str, deadline: float) -> None:
        if is_address(source):
            folder = _clone(source, self.scratch / "clone", deadline - time.monotonic())
        else:
            folder = _git_folder(source)
        facts, trouble = self._ask(
            folder, deadline, "rev-parse", "--is-shallow-repository", "--show-object-format",
            "--git-path", "objects", "--git-path", "info/grafts",
        )  # fmt: skip
        if len(facts) != 4:
            raise RegisterError(f"the repository {self.source} cannot be read ({_reason(trouble)})")
        shallow, form, objects, grafts = facts
        if shallow == "true":
            raise RegisterError(f"{self.source} is a shallow clone; fetch all of it: git fetch --unshallow")
        # Git prints paths relative to its working directory, which is the scratch folder.
        if (self.scratch / grafts).is_file() and (self.scratch / grafts).read_bytes().strip():
            raise RegisterError(
                f"{self.source} has a grafted history; use a fresh clone, or remove info/grafts"
            )
        found, _ = self._ask(folder, deadline, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        if not found:
            raise RegisterError(f"the repository {self.source} has no commit on its branch yet")
        self.head = found[0]
        self._folder = self.scratch / "borrowed"
        Git(self.scratch).execute(
            ["git", "init", "--bare", "--quiet", "--template=", f"--object-format={form}", str(self._folder)],
            env=_ENV,
        )
        lines = f"{_quoted(self.scratch / objects)}\n"
        (self._folder / "objects" / "info").mkdir(exist_ok=True)
        (self._folder / "objects" / "info" / "alternates").write_bytes(
            lines.encode("utf-8", "surrogateescape")
        )

    def _ask(self, folder: Path, deadline: float, *command: str) -> tuple[list[str], str]:
        """Run git on a foreign repository; return the lines of its output, and its error text."""
        _, out, err = Git(self.scratch).execute(
            ["git", f"--git-dir={folder}", *command],
            env=_ENV,
            with_extended_output=True,
            with_exceptions=False,
            stdout_as_string=False,
            kill_after_timeout=max(deadline - time.monotonic(), 1.0),
        )
        return _text(out).splitlines(), _text(err)

    def lines(self, *command: str, timeout_s: float = READ_S) -> Iterator[bytes]:
        """Run a git command to its end, then yield the lines of its output, newlines kept.

        Raises RegisterError.
        """
        with tempfile.TemporaryFile(prefix="daythree-history-", dir=self.scratch) as output:
            status, _, err = Git(self._folder).execute(
                ["git", f"--git-dir={self._folder}", "-c", "core.quotePath=false", *command],
                env=_ENV,
                output_stream=output,
                with_extended_output=True,
                with_exceptions=False,
                kill_after_timeout=timeout_s,
            )
            if status:
                raise RegisterError(
                    f"the history of {self.source} cannot be read ({_reason(_text(err))}); "
                    "look at it with git fsck, or use a fresh clone"
                )
            output.seek(0)
            yield from output

    def read(self, object_id: str) -> bytes:
        """Return an object's content. Raises RegisterError."""
        with self._lock:
            process = self._process()
            # A reader that hangs is killed, so that its header and data come back too short.
            watchdog = threading.Timer(READ_S, process.proc.kill)
            watchdog.start()
            try:
                process.stdin.write(object_id.encode() + b"\n")
                process.stdin.flush()
                header = process.stdout.readline().split()
                if len(header) == 3:
                    size = int(header[2])
                    data = process.stdout.read(size + 1)
                    if len(data) == size + 1:
                        return data[:-1]
            except (OSError, ValueError):
                pass
            finally:
                watchdog.cancel()
        raise RegisterError(
            f"the repository {self.source} lacks object {object_id}; use a whole clone, not a partial one"
        )

    def _process(self) -> Any:
        if self._reader is None:
            self._reader = Git(self._folder).execute(
                ["git", f"--git-dir={self._folder}", "cat-file", "--batch"],
                env=_ENV,
                istream=PIPE,
                as_process=True,
            )
        return self._reader

    def close(self) -> None:
        """End the reading process and remove the clone, if there is one. Safe to call twice."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.proc.kill()
            for stream in (reader.proc.stdin, reader.proc.stdout, reader.proc.stderr):
                stream.close()
            reader.proc.wait()
        shutil.rmtree(self.scratch, ignore_errors=True)


def is_address(source: str) -> bool:
    """Return whether a source is remote: a URL, or `user@host:path`."""
    return "://" in source or re.match(r"[\w.-]+@[\w.-]+:", source) is not None


def _git_folder(source: str) -> Path:
    """Return the absolute path of a repository's git directory, such as `.git`. Raises RegisterError."""
    path = Path(source).expanduser().absolute()
    if not path.is_dir():
        raise RegisterError(f"there is no folder {source!r}; give the path or the URL of a git repository")
    inner = path / ".git"
    if inner.is_dir():
        return inner
    if inner.is_file():  # a linked work tree or a submodule
        pointer = inner.read_text("utf-8", "surrogateescape").strip()
        return path / pointer.removeprefix("gitdir: ")
    if (path / "HEAD").is_file() and (path / "objects").is_dir():
        return path
    for above in path.parents:
        if (above / ".git").exists():
            raise RegisterError(f"{source} is a folder inside the repository {above}; give that instead")
    raise RegisterError(f"{source} is not a git repository; give the path or the URL of one")


def _clone(url: str, folder: Path, timeout_s: float) -> Path:
    try:
        Repo.clone_from(
            url,
            folder,
            bare=True,
            multi_options=["--single-branch", "--no-tags"],
            env={"GIT_TERMINAL_PROMPT": "0", "GIT_TEMPLATE_DIR": ""},
            kill_after_timeout=max(timeout_s, 1.0),
        ).close()
    except (GitError, GitCommandError, ValueError) as error:
        reason = _reason(str(getattr(error, "stderr", "") or error))
        shown = re.sub(r"(?<=://)[^/@\s]+@", "", f"{url} could not be cloned ({reason})")
        raise RegisterError(f"{shown}; check the address and the network") from error
    return folder


def _name_of(source: str) -> str:
    last = re.split(r"[/:]", source.rstrip("/"))[-1] if is_address(source) else Path(source).absolute().name
    return last.removesuffix(".git") or "repository"


def _quoted(path: Path) -> str:
    """Quote a path with unusual characters for git's list of borrowed object folders."""
    text = str(path)
    if text.startswith('"') or "\n" in text:
        escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    return text


def _reason(text: str) -> str:
    lines = [line.strip(" '\"") for line in text.splitlines() if line.strip(" '\"")]
    fatal = [line.removeprefix("fatal: ") for line in lines if line.startswith("fatal: ")]
    timed_out = [line for line in lines if "did not complete in" in line or "timed out" in line]
    return "it took too long" if timed_out else (fatal or lines or ["git said nothing"])[0][:200]


def _text(output: str | bytes) -> str:
    return output if isinstance(output, str) else output.decode("utf-8", "replace")
