"""`RemoteSandbox`: the sandbox contract over a channel. Backends differ only in start and end."""

from __future__ import annotations

import copy
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self
from uuid import uuid4

from ..base import (
    BackgroundProcess,
    Content,
    ExecResult,
    Match,
    OnClose,
    SandboxError,
    SandboxLost,
    SandboxSpec,
    SandboxUnresponsive,
    TreeChanges,
)
from ..disks.disks import Disks
from ..images.build import ENVIRONMENT_FOLDER
from .channel import Channel, Reply, reply_error
from .gate import Gate
from .leases import LEASE_S

SERVER_PIDS = 48
"""Processes and threads of the program inside, beyond the limit of commands."""
SHM_MB = 64
"""Size of `/dev/shm`."""
SNAPSHOT_BYTES = 384 << 20
"""Longest archive that travels out of a sandbox, for a snapshot without copy-on-write."""
SERVER_USER = 65_532
"""Number of the user that the program inside runs as: in no image, and of no command."""
TEMPLATE_USER = 65_531
"""User id of the template (`SandboxSpec.template`)."""
KILL_GRACE_S = 10.0
"""Extra wait for a reply beyond the deadline kept inside, because killing every process takes time."""


LIVES = 8
"""Most lifetimes of a sandbox that is recycled again and again; its owner label expires after them."""

logger = logging.getLogger(__name__)


class Connection:
    """The sandbox itself, shared by its successive handles, of which only the newest is valid."""

    def __init__(self, channel: Channel, end: Callable[[], None]) -> None:
        self.channel = channel
        self.disks: Disks | None = None
        self.opened = time.monotonic()
        self._end = end
        self._closing = threading.Lock()
        self._closed = False

    def own(self, disks: Disks | None) -> None:
        with self._closing:
            self.disks = disks
            if self._closed and disks is not None:
                disks.close()

    def close(self) -> None:
        """End the sandbox. Idempotent."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self.channel.close()
            self._end()
            if self.disks is not None:
                self.disks.close()


class RemoteSandbox:
    """A handle of the sandbox behind a channel; `end` removes what the backend made for the sandbox."""

    def __init__(self, spec: SandboxSpec, name: str, channel: Channel, end: Callable[[], None]) -> None:
        self.spec = spec
        self.name = name
        self.on_close: OnClose | None = None
        self._channel = channel
        self._connection = Connection(channel, end)
        self._gate = Gate(name)

    def _next_handle(self, on_close: OnClose | None) -> Self:
        """Return the handle that succeeds this one."""
        following = copy.copy(self)
        following.on_close, following._gate = on_close, Gate(self.name)
        return following

    @property
    def disks(self) -> Disks | None:
        """The disks, needed for recycling; None where they cannot be swapped."""
        return self._connection.disks

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
        fields = {
            "command": command if isinstance(command, str) else list(command),
            "timeout_s": timeout_s,
            "cwd": cwd,
            "env": dict(env or {}),
            "output_limit": output_limit,
            "report": report,
            "forked": forked,
        }
        header, payload = self._ask("exec", fields, stdin, timeout_s=timeout_s + KILL_GRACE_S)
        stdout, stderr, reported = split(payload, header["sizes"])
        return ExecResult(
            exit_code=header["exit_code"],
            stdout=stdout.decode("utf-8", "replace"),
            stderr=stderr.decode("utf-8", "replace"),
            timed_out=header["exit_code"] is None,
            truncated=header["truncated"],
            duration_s=header["duration_s"],
            report=reported,
            limit=header["limit"],
            background=tuple(BackgroundProcess(*row) for row in header["background"]),
            forked=header.get("forked", False),
        )

    def read(self, path: str, *, timeout_s: float, offset: int = 0, limit: int | None = None) -> bytes:
        fields = {"path": path, "offset": offset, "limit": limit}
        return bytes(self._ask("read", fields, timeout_s=timeout_s).payload)

    def write(self, path: str, data: bytes, *, timeout_s: float, executable: bool = False) -> None:
        self._ask("write", {"path": path, "executable": executable}, data, timeout_s=timeout_s)

    def listdir(self, path: str, *, timeout_s: float) -> list[str]:
        return json.loads(self._ask("listdir", {"path": path}, timeout_s=timeout_s).payload)

    def unpack(self, archive: bytes, path: str, *, timeout_s: float) -> None:
        self._ask("unpack", {"path": path}, archive, timeout_s=timeout_s)

    def lay(self, content: Content, *, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        if self.disks is not None:
            with self._gate.alone(deadline):
                self.disks.swap(content, timeout_s=deadline - time.monotonic())
            return
        self.unpack(content.archive(), ".", timeout_s=timeout_s)
        if content.scratch is not None:
            self.unpack(content.scratch(), "/tmp", timeout_s=deadline - time.monotonic())

    def snapshot(self, *, timeout_s: float) -> Content:
        deadline = time.monotonic() + timeout_s
        with self._gate.alone(deadline):
            stopped = self._running(deadline, stop=True)
            try:
                left = deadline - time.monotonic()
                if self.disks is None:
                    return self._packed(deadline)
                return self.disks.copy(timeout_s=left) if stopped else self.disks.freeze(timeout_s=left)
            finally:
                if stopped:
                    self._running(time.monotonic() + KILL_GRACE_S, stop=False)

    def _running(self, deadline: float, *, stop: bool) -> bool:
        """Stop background processes, or let them continue; return whether there are any."""
        reply = self._send("running", {"stop": stop}, timeout_s=deadline - time.monotonic())
        return bool(reply.header["background"])

    def _packed(self, deadline: float) -> Content:
        archives: list[bytes] = []
        for path in (self.spec.workdir, "/tmp"):
            fields = {"path": path, "limit": SNAPSHOT_BYTES}
            try:
                reply = self._send("pack", fields, timeout_s=deadline - time.monotonic())
            except OSError as error:
                raise SandboxError(f"{self.name} cannot be snapshotted: {error}") from None
            archives.append(bytes(reply.payload))
        return Content(f"snapshot-{uuid4().hex}", lambda: archives[0], lambda: archives[1])

    def changes(
        self, path: str, known: Mapping[str, str], *, timeout_s: float, file_limit: int = 1_048_576
    ) -> TreeChanges:
        fields = {"path": path, "timeout_s": timeout_s, "file_limit": file_limit}
        text = json.dumps(dict(known)).encode()
        try:
            header, payload = self._ask("changes", fields, text, timeout_s=timeout_s)
        except TimeoutError as error:
            raise SandboxUnresponsive(f"{self.name}: {error}") from None
        size = header["text"]
        answer = json.loads(payload[:size])
        contents = split(payload[size:], [length for _, length in answer["written"]])
        return TreeChanges(
            written={name: data for (name, _), data in zip(answer["written"], contents, strict=True)},
            executable=frozenset(answer["executable"]),
            removed=tuple(answer["removed"]),
            skipped=answer["skipped"],
        )

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
        fields = {
            "pattern": pattern,
            "timeout_s": timeout_s,
            "path": path,
            "regex": regex,
            "glob": glob,
            "limit": limit,
        }
        payload = self._ask("search", fields, timeout_s=timeout_s + KILL_GRACE_S).payload
        return [Match(*row) for row in json.loads(payload)]

    def ping(self, *, timeout_s: float) -> None:
        self._ask("ping", {}, timeout_s=timeout_s)

    def own(self, disks: Disks | None) -> None:
        """Take ownership of the disks, which are found after the start."""
        self._connection.own(disks)

    def recycled(self, *, timeout_s: float) -> Self | None:
        deadline = time.monotonic() + timeout_s
        end = self._gate.end()
        if end == "ended already":
            return None
        fresh = None
        try:
            if end == "sound" and self._may_live_on():
                self._make_blank(deadline)
                fresh = self._next_handle(self.on_close)
        except SandboxError as error:
            logger.info("%s is thrown away: %s", self.name, error)
        finally:
            if fresh is None:
                self._connection.close()
                if self.on_close is not None:
                    self.on_close(self._next_handle(None), sound=False)
        return fresh

    def _may_live_on(self) -> bool:
        age_s = time.monotonic() - self._connection.opened
        return (
            self.disks is not None
            and self._channel.settled()
            and not self.spec.network  # remote servers may remember it
            and age_s < (LIVES - 1) * self.spec.lifetime_s
        )

    def _make_blank(self, deadline: float) -> None:
        """Remove every trace of the use so far. Raises `SandboxError` where that cannot be proven."""
        channel, disks = self._channel, self.disks
        assert disks is not None, "asked before"
        channel.tell("retire", deadline)
        left_s = deadline - time.monotonic()
        scrubbed = channel.request("scrub", {"timeout_s": left_s / 2}, timeout_s=left_s)
        if scrubbed.header.get("trace") != "":
            raise SandboxLost(f"a trace would be left ({scrubbed.header.get('trace', 'it did not look')})")
        disks.swap(None, timeout_s=max(0.0, deadline - time.monotonic()))
        settings = {"lifetime_s": self.spec.lifetime_s}
        begun = channel.request("begin", settings, timeout_s=deadline - time.monotonic())
        if "error" in begun.header:
            raise reply_error(begun.header)

    def close(self) -> None:
        end = self._gate.end()
        if end == "ended already":
            return
        if self.on_close is None:
            self._connection.close()
        else:
            self.on_close(self._next_handle(None), sound=end == "sound")

    def shut(self) -> None:
        """End the sandbox whichever handle is valid now; for its backend."""
        self._connection.close()

    def _ask(
        self, operation: str, fields: dict[str, Any], payload: bytes = b"", *, timeout_s: float
    ) -> Reply:
        deadline = time.monotonic() + timeout_s
        with self._gate.call(deadline):
            return self._send(operation, fields, payload, timeout_s=deadline - time.monotonic())

    def _send(
        self, operation: str, fields: dict[str, Any], payload: bytes = b"", *, timeout_s: float
    ) -> Reply:
        reply = self._channel.request(operation, fields, payload, timeout_s=timeout_s)
        if "error" in reply.header:
            raise reply_error(reply.header)
        return reply


def split(data: bytes | bytearray, sizes: Sequence[int]) -> list[bytes]:
    """Cut concatenated parts apart."""
    parts, start = [], 0
    for size in sizes:
        parts.append(bytes(data[start : start + size]))
        start += size
    return parts


def base_environment(spec: SandboxSpec) -> dict[str, str]:
    """Return the environment that every command starts with."""
    return {
        "PATH": f"{ENVIRONMENT_FOLDER}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/tmp/home",
        "LANG": "C.UTF-8",
        "PYTHONPATH": ENVIRONMENT_FOLDER,
        "PYTHONDONTWRITEBYTECODE": "1",
        **dict(spec.env),
    }


def server_settings(
    spec: SandboxSpec, *, server_user: int | None = SERVER_USER, lease_s: float = LEASE_S, **more: Any
) -> dict[str, Any]:
    """Return the start settings of the program inside; with `server_user` None it keeps its user."""
    return {
        "workdir": spec.workdir,
        "lifetime_s": spec.lifetime_s,
        "lease_s": lease_s,
        "user": user_and_group(spec),
        "server_user": server_user,
        "open_files": spec.open_files,
        "pids": spec.pids,
        "template": list(spec.template),
        "template_user": TEMPLATE_USER,
        **more,
    }


def user_and_group(spec: SandboxSpec) -> tuple[int, int]:
    uid, _, gid = spec.user.partition(":")
    return int(uid), int(gid or uid)


def memory_bytes(spec: SandboxSpec) -> int:
    """Return the memory limit, disks included: these are in memory, and a full disk is not full memory."""
    return (spec.memory_mb + 2 * spec.disk_mb + SHM_MB) << 20
