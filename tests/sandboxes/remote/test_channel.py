"""The client side of a channel against far ends that misbehave."""

import json
import os
import pickle
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxes import SandboxError, SandboxLost, SandboxSpec, SandboxUnavailable, SandboxUnresponsive
from sandboxes.bootstrap import SERVER_COMMAND
from sandboxes.conformance.commands import text_is_found_in_order
from sandboxes.remote.channel import Channel, Stream
from sandboxes.remote.sandbox import RemoteSandbox, server_settings


@pytest.fixture
def pair() -> Iterator[tuple[Channel, socket.socket]]:
    ours, theirs = socket.socketpair()
    channel = Channel(Stream(ours), "the sandbox")
    yield channel, theirs
    channel.close()
    theirs.close()


def frame(header: dict[str, object], payload: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack(">II", len(text), len(payload)) + text + payload


def test_replies_find_their_request_in_any_order(pair: tuple[Channel, socket.socket]) -> None:
    channel, far = pair
    got: dict[str, bytes] = {}

    def ask(name: str) -> None:
        got[name] = bytes(channel.request(name, {}, timeout_s=10).payload)

    threads = []
    for name in ("first", "second"):
        threads.append(threading.Thread(target=ask, args=(name,)))
        threads[-1].start()
        far.recv(65_536)
    far.sendall(frame({"id": 99}, b"nobody asked") + frame({"id": 2}, b"2") + frame({"id": 1}, b"1"))
    for thread in threads:
        thread.join(10)
    assert got == {"first": b"1", "second": b"2"}


def test_silence_is_unresponsive_at_the_deadline(pair: tuple[Channel, socket.socket]) -> None:
    started = time.monotonic()
    with pytest.raises(SandboxUnresponsive, match=r"`read` within 0\.2 s"):
        pair[0].request("read", {}, timeout_s=0.2)
    assert time.monotonic() - started < 2


def test_a_far_end_that_stops_reading_is_unresponsive(pair: tuple[Channel, socket.socket]) -> None:
    with pytest.raises(SandboxUnresponsive):
        pair[0].request("write", {}, b"x" * (8 << 20), timeout_s=0.3)
    with pytest.raises(SandboxLost, match="stopped taking requests"):
        pair[0].request("read", {}, timeout_s=1)


@pytest.mark.parametrize("torn", [b"", b"\0\0", frame({"id": 1}, b"payload")[:-3]])
def test_a_torn_reply_is_lost(pair: tuple[Channel, socket.socket], torn: bytes) -> None:
    channel, far = pair
    threading.Timer(0.2, lambda: (far.sendall(torn), far.close())).start()
    with pytest.raises(SandboxLost):
        channel.request("read", {}, timeout_s=10)


@pytest.mark.parametrize(
    "reply", [b"\xff" * 8, struct.pack(">II", 2, 0) + b"{]", struct.pack(">II", 2, 0) + b"[]"]
)
def test_a_reply_that_is_none_is_lost(pair: tuple[Channel, socket.socket], reply: bytes) -> None:
    channel, far = pair
    threading.Timer(0.2, lambda: far.sendall(reply)).start()
    with pytest.raises(SandboxLost, match="a reply that is none"):
        channel.request("read", {}, timeout_s=10)


def test_errors_travel_between_processes() -> None:
    for kind in (SandboxError, SandboxLost, SandboxUnavailable, SandboxUnresponsive):
        copy = pickle.loads(pickle.dumps(kind("one sentence")))
        assert type(copy) is kind and str(copy) == "one sentence"


def test_search_finds_the_same_without_ripgrep(tmp_path: Path) -> None:
    """The program inside, run without any isolation where `rg` is not on its path."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "sh").symlink_to(shutil.which("sh") or "/bin/sh")
    ours, theirs = socket.socketpair()
    environment = {"PATH": str(programs), "HOME": str(tmp_path / "home")}
    command = [sys.executable, *SERVER_COMMAND[1:]]
    with theirs:
        process = subprocess.Popen(command, stdin=theirs.fileno(), stdout=theirs.fileno(), env=environment)
    channel = Channel(Stream(ours), "the program inside")
    spec = SandboxSpec("none", workdir=str(tmp_path))
    sandbox = RemoteSandbox(spec, "the program inside", channel, lambda: None)
    channel.start(server_settings(spec, server_user=None, lease_s=60.0), timeout_s=20)
    text_is_found_in_order(sandbox)
    with pytest.raises(ValueError, match="regex parse error"):
        sandbox.search("(", regex=True, timeout_s=20)
    slow = tmp_path / "slow"
    slow.write_text("a" * 40 + "!")
    with pytest.raises(TimeoutError):
        sandbox.search("(a+)+$", regex=True, path="slow", timeout_s=1)
    background = int(sandbox.exec("/bin/sleep 60 >/dev/null 2>&1 & echo $!", timeout_s=20).stdout)
    sandbox.close()
    assert process.wait(10) == 0, "it ends when its input does"
    assert os.path.exists(f"/proc/{background}") is False, "with what it left running"  # noqa: PTH110
