"""The server inside the sandbox: answers framed requests on its standard streams.

Pure standard library, Python 3.8 or later. The text of this package travels over the channel when a
sandbox starts (`sandboxes.remote.channel`), so nothing has to be mounted or installed. Outside of a sandbox
no code imports this module.

Requests (`inside.frames`) are answered by a few threads, in any order, matched by `id`. The server ends at
the end of its standard input, and all processes end with it.

It runs in the sandbox's own PID namespace, under its own user (`inside.identity`), as a child of
`inside.keeper`, and inherits every orphan of its commands. Where it must share the commands' user, it is the
first process itself, which no command can kill, and hides from `ptrace` and `/proc`, so that no command can
take its descriptors and answer in its place.
"""

from __future__ import annotations

import errno
import os
import queue
import threading
import time

from .commands import do_exec
from .files import do_listdir, do_read, do_unpack, do_write, shown
from .forking import FORKER
from .frames import WRITING, receive, send
from .identity import PR_SET_CHILD_SUBREAPER, prctl
from .processes import OWN, REAPER, kill_everything
from .search import do_search
from .spawning import SPAWNER
from .trees import do_changes, do_pack, do_running

WORKERS = 32
RETIRED = 77  # how the server leaves when the keeper is to go on


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
    """Threads that answer requests: as many as are busy at once, at most `WORKERS`."""

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


def end():
    """Kill every process and exit, which ends the sandbox. In a PID namespace of its own, the kernel kills
    the rest once more."""
    WRITING.acquire(timeout=1.0)  # no reply may report the kills that follow as a result
    kill_everything()
    os._exit(0)


def retire():
    """Exit with no frame half written; the keeper goes on and kills the processes that are left."""
    WRITING.acquire()
    os._exit(RETIRED)


HEARD = [0.0]  # when the owner gave its last sign of life


def watch(until, lease_s):
    """End the sandbox at the end of its lifetime, or of its lease."""
    while True:
        end_at = min(until, HEARD[0] + lease_s)
        if time.monotonic() >= end_at:
            end()
        time.sleep(min(max(0.01, end_at - time.monotonic()), 60.0))


def serve(identity, request, *, keeper=None, kept=(), template=None):
    """Answer requests until the channel ends, beginning with `request`."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    OWN.begin(identity, keeper, kept)
    HEARD[0] = time.monotonic()
    os.makedirs(os.environ.get("HOME") or "/tmp", exist_ok=True)
    clock = (time.monotonic() + request["lifetime_s"], request["lease_s"])
    threading.Thread(target=watch, args=clock, daemon=True).start()
    SPAWNER.begin(identity, REAPER.ended)
    if template is not None:
        FORKER.begin(template, identity.user, REAPER.ended)
    REAPER.begin()
    workers = Workers()
    send({"id": request["id"], "pid": os.getpid()}, [])
    while True:
        frame = receive()
        if frame is None:
            end()
            return
        HEARD[0] = time.monotonic()
        if frame[0]["op"] == "renew":
            continue
        if frame[0]["op"] == "retire":
            retire()
        workers.submit(lambda request=frame[0], payload=frame[1]: answer(request, payload))
