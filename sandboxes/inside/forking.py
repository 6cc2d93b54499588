"""The server's side of the template: starting it and requesting forks; `template` is the other side.

The keeper starts the template while it is still root, under a user of its own. The template inherits one
socket, as descriptor 3.
"""

from __future__ import annotations

import array
import ctypes
import errno
import itertools
import json
import os
import select
import signal
import socket
import threading
import time

from .identity import (
    CAP_SETUID,
    CAPABILITY_VERSION,
    LIBC,
    PR_SET_KEEPCAPS,
    checked,
    empty_bounding_set,
    prctl,
)
from .spawning import own_environment
from .starting import CATCHABLE

CONTROL = 3  # the template's descriptor
VARIABLE = "DAYTHREE_TEMPLATE_FD"
ROOM = ("DAYTHREE_ROOM", "-" * 4096)
"""In the template's environment, so that there is room for a fork's (`template.show_environment`)."""
READY_S = 30.0
"""Longest wait for a fork. The first one includes the template's imports."""
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 47, 2


class Template:
    """The template process, as the keeper holds it."""

    def __init__(self, arguments, users, workdir, *, memory, text):
        """Start the template, with a first connection in `line`. `users` are its user and group, `memory`
        bounds each fork (0: no bound), `text` is the source of `template`."""
        self.memory = memory
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            try:
                become_template(arguments, users, workdir, theirs.fileno())
            except BaseException as error:
                os.write(2, f"the template cannot start: {error}\n".encode())
            finally:
                os._exit(127)
        theirs.close()
        self.control.send(text)
        self.owed = 0  # how often it has yet to say `ok`
        self.connect()

    def connect(self):
        """Open the connection for one server. Once accepted, the template listens to this connection only."""
        self.line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            rights = array.array("i", [theirs.fileno()])
            self.control.sendmsg([b"connection"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        self.owed += 1

    def settle(self, timeout_s):
        """Cut the template off from the last server; return why that is uncertain, else empty."""
        self.control.settimeout(timeout_s)
        try:
            self.connect()
            while self.owed:
                if self.control.recv(16) != b"ok":
                    return "the template is gone"
                self.owed -= 1
        except OSError as error:
            return f"the template does not answer: {error}"
        return ""


def become_template(arguments, users, workdir, control):
    """Turn into the template. Never returns. Raises OSError."""
    os.setsid()
    for number in CATCHABLE:
        signal.signal(number, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)  # was the channel
    if control != CONTROL:
        os.dup2(control, CONTROL)
    os.set_inheritable(CONTROL, True)
    os.closerange(CONTROL + 1, os.sysconf("SC_OPEN_MAX"))
    os.chdir(workdir)
    take_template_user(*users)
    os.execvpe(arguments[0], arguments, {**os.environ, VARIABLE: str(CONTROL), ROOM[0]: ROOM[1]})


def take_template_user(user, group):
    """Keep SETUID, and nothing else, across the change of user and the following exec.

    Only an ambient capability outlives both. It must be inheritable first, which must be set before the
    bounding set is emptied (capabilities(7)).
    """
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable, twice
    checked(LIBC.capget(header, sets))
    sets[2], sets[5] = 1 << CAP_SETUID, 0
    checked(LIBC.capset(header, sets))
    empty_bounding_set()
    prctl(PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)
    checked(LIBC.capset(header, (ctypes.c_uint32 * 6)(*[1 << CAP_SETUID] * 3, 0, 0, 0)))
    checked(LIBC.prctl(PR_CAP_AMBIENT, *map(ctypes.c_ulong, (PR_CAP_AMBIENT_RAISE, CAP_SETUID, 0, 0))))


class Fork:
    """A request for a fork."""

    def __init__(self, environment, cwd, streams):
        """`environment` is added to this program's own. Raises ValueError."""
        own = {os.fsdecode(key): os.fsdecode(value) for key, value in own_environment().items()}
        self.environment = {
            **environment,
            **own,
            **environment,
        }  # the given variables come first, as only so many fit into /proc (ROOM)
        if any("\0" in text or "=" in key for key, value in environment.items() for text in (key, value)):
            raise ValueError("embedded null byte")
        self.cwd = cwd
        self.streams = streams  # the fork's descriptor -> ours
        self.pid = 0
        self.error = 0
        self.answered = threading.Event()


class TemplateGone(Exception):
    """No template answers."""


class Forker:
    """Requests forks from the template."""

    def __init__(self):
        self.gone = True
        self.numbers = itertools.count(1)
        self.jobs = {}  # number -> Fork
        self.lock = threading.Lock()

    def begin(self, template, user, ended):
        """Set the forks' user; `ended(pid, status)` is called at the end of each fork."""
        self.line, self.memory, self.user, self.ended = template.line, template.memory, user, ended
        self.gone = False
        threading.Thread(target=self.listen, daemon=True).start()

    def start(self, job, timeout_s):
        """Return the new process's id. Raises OSError when the fork fails, TemplateGone without an answer."""
        until = time.monotonic() + min(timeout_s, READY_S)
        number = next(self.numbers)
        with self.lock:
            if self.gone:
                raise TemplateGone
            self.jobs[number] = job
        try:
            self.ask(number, job, until)
        except OSError:
            self.end()
            raise TemplateGone from None
        if not job.answered.wait(max(0.0, until - time.monotonic())):
            self.end()
            job.answered.wait()  # by now it is
        if job.error == errno.EPIPE:
            raise TemplateGone
        if job.error:
            raise OSError(job.error, os.strerror(job.error))
        return job.pid

    def ask(self, number, job, until):
        request = {"id": number, "user": self.user, "memory": self.memory, "cwd": job.cwd}
        request.update(environment=job.environment, streams=list(job.streams))
        poll = select.poll()
        poll.register(self.line, select.POLLOUT)
        if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
            raise TimeoutError
        rights = array.array("i", job.streams.values())
        text = json.dumps(request).encode()
        self.line.sendmsg([text], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], socket.MSG_DONTWAIT)

    def listen(self):
        """Read the template's messages until it is gone."""
        pids = {}  # number -> pid
        while True:
            try:
                data = self.line.recv(1 << 12)
            except OSError:
                data = b""
            if not data:
                break
            answer = json.loads(data)
            if "status" in answer:
                self.ended(pids.pop(answer["id"]), answer["status"])
            else:
                pids[answer["id"]] = answer.get("pid")
                self.answer(answer)
        self.end()
        for pid in pids.values():
            self.ended(pid, signal.SIGKILL)  # their real status is lost with the template

    def answer(self, answer):
        with self.lock:
            job = self.jobs.pop(answer["id"], None)
        if job is not None:
            job.pid, job.error = answer.get("pid", 0), answer.get("error", 0)
            job.answered.set()
        elif "pid" in answer:  # its request was given up
            try:
                os.kill(answer["pid"], signal.SIGKILL)
            except OSError:
                pass  # it ended by itself

    def end(self):
        """Stop requesting forks."""
        with self.lock:
            self.gone = True
            jobs, self.jobs = self.jobs, {}
        for job in jobs.values():
            job.error = errno.EPIPE
            job.answered.set()


FORKER = Forker()
