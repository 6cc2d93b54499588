"""The client side of a sandbox's channel: framed requests over one persistent socket.

The far end is the program of `sandboxes.inside`, which is sent over the channel first. One thread reads;
replies are matched to requests by id; every request has a deadline. A failure of the channel reaches every
waiting caller as `SandboxLost` or `SandboxUnresponsive`.
"""

from __future__ import annotations

import itertools
import json
import select
import socket
import struct
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from ..base import SandboxError, SandboxLost, SandboxUnresponsive
from ..bootstrap import BOOTSTRAP, DEFAULT_SETTINGS, server_program

HEADER_LIMIT = 64 << 20
PAYLOAD_LIMIT = 512 << 20
COMPLAINT_LIMIT = 4_096


class Stream:
    """Both directions of a connected socket, with exact reads and writes."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._writing = threading.Lock()
        connection.setblocking(True)

    def take(self, count: int) -> bytearray:
        """Read exactly `count` bytes. Raises EOFError at the end, OSError when cut."""
        data = bytearray(count)
        view = memoryview(data)
        while view:
            received = self._receive_into(view)
            if not received:
                raise EOFError
            view = view[received:]
        return data

    def _receive_into(self, view: memoryview) -> int:
        return self._connection.recv_into(view)

    def send(self, parts: Sequence[bytes], deadline: float) -> None:
        """Send all of `parts` without interleaving. Raises TimeoutError at `deadline`, OSError when cut."""
        if not self._writing.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise TimeoutError
        try:
            for part in parts:
                self._send_part(memoryview(part), deadline)
        finally:
            self._writing.release()

    def send_if_free(self, parts: Sequence[bytes]) -> None:
        """Send a short message, unless another send runs or the buffer is full. Raises OSError when cut."""
        if not self._writing.acquire(blocking=False):
            return
        try:
            poll = select.poll()
            poll.register(self._connection, select.POLLOUT)
            if poll.poll(0):
                for part in parts:
                    self._send_part(memoryview(part), time.monotonic() + 1.0)
        finally:
            self._writing.release()

    def _send_part(self, view: memoryview, deadline: float) -> None:
        poll = select.poll()
        poll.register(self._connection, select.POLLOUT)
        while view:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise TimeoutError
            try:
                view = view[self._connection.send(view[: 1 << 20], socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                continue

    def complaint(self) -> str:
        """Return the far end's standard error, where the stream carries it."""
        return ""

    def close(self) -> None:
        """Shut down both directions, which also wakes the reader thread."""
        try:
            self._connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # cut already
        self._connection.close()


class Reply(NamedTuple):
    header: dict[str, Any]
    payload: bytearray


class Channel:
    """Concurrent requests to the program inside. Thread-safe."""

    def __init__(self, stream: Stream, name: str) -> None:
        self._stream = stream
        self._name = name
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._waiting: dict[int, Future[Reply]] = {}
        self._owed: set[int] = set()
        """Ids of requests that timed out; their replies may still arrive."""
        self._ended: str = ""
        threading.Thread(target=self._read, name=f"channel {name}", daemon=True).start()

    def start(self, settings: dict[str, Any], *, timeout_s: float) -> None:
        """Send the program and its settings, and wait until it runs."""
        settings = {**DEFAULT_SETTINGS, "bootstrap": BOOTSTRAP, **settings}
        self.request("start", settings, timeout_s=timeout_s, before=server_program())

    def request(
        self,
        operation: str,
        fields: dict[str, Any],
        payload: bytes = b"",
        *,
        timeout_s: float,
        before: bytes = b"",
    ) -> Reply:
        """Send a request and wait for its reply. Raises `SandboxLost`, `SandboxUnresponsive`."""
        deadline = time.monotonic() + timeout_s
        number, reply = next(self._ids), Future[Reply]()
        with self._lock:
            if self._ended:
                raise SandboxLost(self._ended)
            self._waiting[number] = reply
        header = json.dumps({"op": operation, "id": number, **fields}).encode("ascii")
        try:
            self._send([before + struct.pack(">II", len(header), len(payload)) + header, payload], deadline)
            return reply.result(max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            with self._lock:
                if number in self._waiting:
                    self._owed.add(number)
            message = f"{self._name} did not answer `{operation}` within {timeout_s:.1f} s"
            raise SandboxUnresponsive(message) from None
        finally:
            with self._lock:
                self._waiting.pop(number, None)

    def tell(self, operation: str, deadline: float) -> None:
        """Send a message that has no reply. Raises `SandboxLost`, `SandboxUnresponsive`."""
        header = json.dumps({"op": operation, "id": 0}).encode("ascii")
        try:
            self._send([struct.pack(">II", len(header), 0) + header], deadline)
        except TimeoutError:
            raise SandboxUnresponsive(f"{self._name} did not take `{operation}`") from None

    def settled(self) -> bool:
        """Whether every request ever made has been answered."""
        with self._lock:
            return not self._waiting and not self._owed and not self._ended

    def renew(self) -> None:
        """Renew the lease at the far end; skipped while the socket takes no bytes."""
        header = json.dumps({"op": "renew", "id": 0}).encode("ascii")
        try:
            self._stream.send_if_free([struct.pack(">II", len(header), 0) + header])
        except (OSError, ValueError):
            pass  # the reader thread fails the waiting requests

    def _send(self, parts: list[bytes], deadline: float) -> None:
        try:
            self._stream.send(parts, deadline)
        except TimeoutError:
            self._end("stopped taking requests")  # half a frame is out: nothing can follow it
            raise
        except (OSError, ValueError) as error:  # ValueError: closed by another thread meanwhile
            reason = self._stream.complaint() or (error.strerror if isinstance(error, OSError) else None)
            self._end(f"is gone ({reason or 'channel closed'})")
            raise SandboxLost(self._ended) from None

    def _read(self) -> None:
        """Reader thread: hand out replies until the stream ends."""
        try:
            while True:
                header_size, payload_size = struct.unpack(">II", self._stream.take(8))
                if header_size > HEADER_LIMIT or payload_size > PAYLOAD_LIMIT:
                    raise ValueError
                header = json.loads(self._stream.take(header_size))
                self._deliver(header, self._stream.take(payload_size))
        except (EOFError, OSError):
            complaint = self._stream.complaint()
            self._end("is gone: its channel closed" + (f" ({complaint})" if complaint else ""))
        except (ValueError, AttributeError):
            self._end("sent a reply that is none")

    def _deliver(self, header: dict[str, Any], payload: bytearray) -> None:
        with self._lock:
            number = header.get("id", 0)
            reply = self._waiting.pop(number, None)
            self._owed.discard(number)
        if reply is not None:  # otherwise its asker gave up
            reply.set_result(Reply(header, payload))

    def _end(self, how: str) -> None:
        with self._lock:
            self._ended = self._ended or f"{self._name} {how}"
            waiting, self._waiting = self._waiting, {}
        self._stream.close()
        for reply in waiting.values():
            reply.set_exception(SandboxLost(self._ended))

    def close(self) -> None:
        """Close the channel, which ends the program at the far end."""
        self._end("was closed")


ERRORS: dict[str, type[Exception]] = {
    "FileNotFoundError": FileNotFoundError,
    "IsADirectoryError": IsADirectoryError,
    "NotADirectoryError": NotADirectoryError,
    "PermissionError": PermissionError,
    "TimeoutError": TimeoutError,
    "ValueError": ValueError,
    "OSError": OSError,
}


def reply_error(header: dict[str, Any]) -> Exception:
    """Translate an error reply into an exception."""
    kind = ERRORS.get(header["error"])
    return kind(header["text"]) if kind else SandboxError(f"the sandbox's program failed: {header['text']}")
