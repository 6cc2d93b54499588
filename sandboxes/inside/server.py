"""The tool side: runs inside the sandbox and answers framed requests on its standard streams.

Pure standard library, Python 3.8 or later. The text of this package travels over the channel when a
sandbox starts (`sandboxes.channel`), so nothing has to be mounted or installed; outside of a sandbox nobody
imports it.

A frame is two 4-byte big-endian lengths, a JSON header, raw bytes. Requests are answered by a few threads,
in any order, matched by `id`. The server ends when its standard input does, and takes everything with it.

It is made to run as the first process of its own PID namespace, where it inherits every orphan and no command
can signal it, and under a user of its own (`inside.identity`). Where it has to share the user of the
commands, it at least makes itself unreadable to `ptrace` and `/proc`, so that none can take its descriptors
and answer in its place.
"""

from __future__ import annotations

import errno
import json
import os
import queue
import signal
import struct
import threading
import time

from .commands import PREFIX, do_exec
from .files import WORKDIR, do_listdir, do_read, do_unpack, do_write, shown
from .identity import PR_SET_CHILD_SUBREAPER, Identity, prctl
from .limits import LIMITS, limit_resources
from .processes import REAPER, kill_everything
from .search import PROGRAM, do_search, search_child
from .spawning import SPAWNER
from .trees import do_changes, do_pack, do_running

WORKERS = 32


def do_ping(_request, payload):
    return {}, [payload]


OPERATIONS = {
    "exec": do_exec,
    "read": do_read,
    "write": do_write,
    "listdir": do_listdir,
    "unpack": do_unpack,
    "changes": do_changes,
    "search": do_search,
    "running": do_running,
    "pack": do_pack,
    "ping": do_ping,
}
NAMED_ERRORS = (
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
    TimeoutError,
    ValueError,
    OSError,
)


class Workers:
    """Threads that answer requests: as many as are needed at once, at most `WORKERS`."""

    def __init__(self):
        self.jobs = queue.SimpleQueue()
        self.lock = threading.Lock()
        self.idle = 0
        self.count = 0
        for _ in range(4):  # there before any command can use up the processes it may have
            self.start()

    def start(self):
        self.count += 1
        threading.Thread(target=self.run, daemon=True).start()

    def submit(self, job):
        try:
            with self.lock:
                if self.jobs.qsize() >= self.idle and self.count < WORKERS:
                    self.start()
        except RuntimeError:  # a command uses up every process there may be; a busy worker will come back
            pass
        self.jobs.put(job)

    def run(self):
        while True:
            with self.lock:
                self.idle += 1
            job = self.jobs.get()
            with self.lock:
                self.idle -= 1
            job()


WRITING = threading.Lock()


def answer(request, payload):
    try:
        header, parts = OPERATIONS[request["op"]](request, payload)
    except Exception as error:
        header, parts = {"error": error_kind(error), "text": error_text(error)}, []
    header["id"] = request["id"]
    send(header, parts)


def error_kind(error):
    if isinstance(error, OSError) and error.errno == errno.EROFS:
        return "PermissionError"
    if isinstance(error, FileExistsError):  # a file where a folder was to be made
        return "NotADirectoryError"
    return next((kind.__name__ for kind in NAMED_ERRORS if isinstance(error, kind)), "unexpected")


def error_text(error):
    if isinstance(error, OSError) and error.strerror:
        return "{}: {}".format(error.strerror, shown(os.fsdecode(error.filename or "")))
    return str(error) or type(error).__name__


def send(header, parts):
    text = json.dumps(header).encode()
    prefix = struct.pack(">II", len(text), sum(len(part) for part in parts)) + text
    with WRITING:
        for part in (prefix, *parts):
            view = memoryview(part)
            while view:
                view = view[os.write(1, view[: 1 << 20]) :]


def receive():
    """The next (header, payload), or None at the end of the channel."""
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


def end():
    """Kill everything and leave. In a PID namespace of our own the kernel does the same once more."""
    kill_everything()
    os._exit(0)


HEARD = [time.monotonic()]  # when the owner gave its last sign of life


def watch(until, lease_s):
    """End the sandbox at its time, or when its owner has been silent for too long."""
    while True:
        end_at = min(until, HEARD[0] + lease_s)
        if time.monotonic() >= end_at:
            end()
        time.sleep(min(max(0.01, end_at - time.monotonic()), 60.0))


def prepare(request):
    """Take the sandbox over: be its init, part from the commands' user, set its clock."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    os.closerange(3, 1024)  # what whoever started this forgot to close; commands would inherit it
    user, group = request["user"]
    for folder in request["owned"]:
        os.chown(folder, user, group)
    if not request["user_namespaces"]:
        with open("/proc/sys/user/max_user_namespaces", "w") as file:
            file.write("0")
    limit_resources(request["open_files"], request["processes"])
    if request["memory"]:  # no cgroup bounds it: so much for each process of a command
        PREFIX.extend(["sh", "-c", 'ulimit -v "$0" && exec "$@"', str(request["memory"] >> 10)])
    LIMITS.begin([request["workdir"], "/tmp", "/dev/shm"], request["pids"])
    identity = Identity(user, group, request["server_user"])
    identity.take()
    signal.signal(signal.SIGINT, lambda *_: None)  # nothing else reaches a first process without a handler
    os.makedirs(os.environ.get("HOME") or "/tmp", exist_ok=True)
    os.chdir("/")
    WORKDIR[0] = request["workdir"]
    SPAWNER.begin(identity)
    clock = (time.monotonic() + request["lifetime_s"], request["lease_s"])
    threading.Thread(target=watch, args=clock, daemon=True).start()


def main(program, arguments):
    """Serve until the channel ends; with arguments, be the child of one search instead."""
    if arguments:
        search_child(json.loads(arguments[0]), arguments[1])
        return
    frame = receive()
    if frame is None:
        return
    PROGRAM.update(bootstrap=frame[0]["bootstrap"], text=program)
    prepare(frame[0])
    REAPER.begin()
    workers = Workers()
    send({"id": frame[0]["id"], "pid": os.getpid()}, [])
    while True:
        frame = receive()
        if frame is None:
            end()
            return
        HEARD[0] = time.monotonic()
        if frame[0]["op"] == "renew":
            continue
        workers.submit(lambda request=frame[0], payload=frame[1]: answer(request, payload))
