"""The channel's frames inside the sandbox: two 4-byte big-endian lengths, a JSON header, raw bytes."""

from __future__ import annotations

import json
import os
import struct
import threading

WRITING = threading.Lock()


def send(header, parts):
    text = json.dumps(header).encode()
    prefix = struct.pack(">II", len(text), sum(len(part) for part in parts)) + text
    with WRITING:
        for part in (prefix, *parts):
            view = memoryview(part)
            while view:
                view = view[os.write(1, view[: 1 << 20]) :]


def receive():
    """Return the next (header, payload), None at the end of the channel. Reads no byte beyond the frame."""
    prefix = receive_exactly(8)
    if prefix is None:
        return None
    header_size, payload_size = struct.unpack(">II", prefix)
    header = receive_exactly(header_size)
    payload = receive_exactly(payload_size)
    return None if header is None or payload is None else (json.loads(header), payload)


def receive_exactly(size):
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = os.readv(0, [view])
        if not count:
            return None
        view = view[count:]
    return bytes(data)
