"""The template's side: a program that was started early waits here, and goes on in forks of itself.

A sandbox with a template (`SandboxSpec.template`) starts that command before anything else, under a user of
its own that holds one capability, SETUID. The program loads what it will need, and then does this with the
descriptor that DAYTHREE_TEMPLATE_FD names:

    waiting = {}
    exec(os.read(descriptor, 1 << 18), waiting)
    waiting["wait"](descriptor)

The text it reads is this file. `wait` returns once in every fork, which by then is the commands' user without
any capability, leads a session of its own, and has the streams, environment, directory and limits of a
command: whatever the program does from there, it does as if it had just been started. No code of a task may
be touched before. What runs in a fork cannot signal, trace or read the template, which has another user; nor
find its sockets, which are closed in the fork.

The descriptor, number 3, is a socket whose messages each are one thing: first this text, then connections, of
which the last one counts, each answered with `ok`. On a connection come requests, JSON with the descriptors
that become `streams`; the answers are `{"id", "pid"}`, when the fork has the commands' user, or
`{"id", "error"}`, and, when it has ended, `{"id", "status"}`. One process with one thread does all of it:
after `ok`, nothing asked before it happens any more. Python 3.7 or newer.
"""

# ruff: noqa: E402, I001
import sys

PLACES = frozenset(sys.path_importer_cache)  # before the imports below

import array
import ctypes
import json
import os
import resource
import select
import signal
import time

import _socket

OWN = ("array", "ctypes", "_ctypes", "ctypes._endian", "resource", "_socket")
"""Modules that a program which did not wait would not have, unless it imported them itself."""
CAPABILITY_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3
PR_SET_DUMPABLE, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 4, 47, 4
REQUEST_LIMIT = 1 << 18
FORK_S = 5.0
COMMAND_NICE = 5  # as `spawning` has it
LIBC = ctypes.CDLL(None, use_errno=True)


def wait(descriptor, known=frozenset()):
    """Answer until the sandbox ends; return in each fork, which keeps at least the modules in `known`."""
    prctl(PR_SET_DUMPABLE, 0)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    Template(descriptor).serve()
    for name in OWN:
        if name not in known:
            sys.modules.pop(name, None)
    for place in sys.path_importer_cache.keys() - PLACES:
        del sys.path_importer_cache[place]


class Template:
    """The process that is forked."""

    def __init__(self, descriptor):
        self.control = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, descriptor)
        self.running = {}  # pid -> id of the request, for this connection
        self.wake, self.bell = os.pipe()
        os.set_blocking(self.bell, False)
        os.set_blocking(self.wake, False)
        self.room = environment_room()
        self.line = self.next_line()  # the connection that counts
        self.line_is_up = True

    def serve(self):
        """Answer requests; returns only in a fork."""
        signal.set_wakeup_fd(self.bell)
        while True:
            poll = select.poll()
            for descriptor in (self.wake, self.control.fileno()):
                poll.register(descriptor, select.POLLIN)
            if self.line_is_up:
                poll.register(self.line.fileno(), select.POLLIN)
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self.wake in ready:
                self.reap()
            if self.control.fileno() in ready:
                self.connect()
            elif self.line.fileno() in ready and self.answer():
                return

    def connect(self):
        """Accept the next connection; requests on the former one are ignored from then on."""
        self.line.close()
        self.running.clear()
        self.line = self.next_line()
        self.line_is_up = True

    def next_line(self):
        data, descriptors = receive(self.control)
        if not data:
            os._exit(0)  # the sandbox has ended
        self.control.send(b"ok")
        return _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, descriptors[0])

    def answer(self):
        """Answer one request; return whether this process is the fork."""
        data, descriptors = receive(self.line)
        if not data:
            self.line_is_up = False
            return False
        request = json.loads(data)
        hear, tell = os.pipe()
        try:
            pid = os.fork()
        except OSError as error:
            self.tell({"id": request["id"], "error": error.errno})
            pid = -1
        if pid == 0:
            os.close(hear)
            self.become_command(request, descriptors, tell)
            return True
        os.close(tell)
        for descriptor in descriptors:
            os.close(descriptor)
        if pid > 0:
            wait_for_end(hear, pid)
            self.running[pid] = request["id"]
            self.tell({"id": request["id"], "pid": pid})
        os.close(hear)
        return False

    def become_command(self, request, descriptors, tell):
        """Turn the fork into a command, or end it; `tell` is closed once the fork has the commands' user."""
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for descriptor in (self.wake, self.bell):
                os.close(descriptor)
            self.control.close()
            self.line.close()
            os.setsid()
            for place, descriptor in zip(request["streams"], descriptors):  # noqa: B905 (3.10)
                os.dup2(descriptor, place)
            for descriptor in descriptors:
                os.close(descriptor)
            if request["memory"]:
                resource.setrlimit(resource.RLIMIT_AS, (request["memory"], request["memory"]))
            give_up_everything(request["user"])
            os.close(tell)
            yield_to_the_server()
            os.environ.clear()
            os.environ.update(request["environment"])
            show_environment(request["environment"], self.room)
            time.tzset()
            os.chdir(request["cwd"])
        except BaseException as error:  # nothing of this may run on: say it as the server does
            os.write(2, f"cannot start: {error}\n".encode("utf-8", "replace"))
            os._exit(126)

    def reap(self):
        """Report exits of forks."""
        try:
            os.read(self.wake, 1 << 12)
        except BlockingIOError:
            pass
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            if ended.si_pid in self.running:  # reported before its number can be reused
                killed = ended.si_code in (os.CLD_KILLED, os.CLD_DUMPED)
                status = ended.si_status if killed else ended.si_status << 8  # as `waitpid` has it
                self.tell({"id": self.running.pop(ended.si_pid), "status": status})
            os.waitpid(ended.si_pid, 0)

    def tell(self, answer):
        try:
            self.line.send(json.dumps(answer).encode())
        except OSError:
            pass  # no server listens: the sandbox is between two episodes


def wait_for_end(descriptor, pid):
    """Wait until a fork has the commands' user; a fork that is too slow is killed."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if not poll.poll(FORK_S * 1000):
        try:
            os.kill(pid, signal.SIGKILL)
        except PermissionError:
            pass  # it is the commands' by now, and one of them holds it up


def receive(connection):
    """Return one message with its descriptors; empty at the end."""
    data, extra, _, _ = connection.recvmsg(REQUEST_LIMIT, 256)
    descriptors = array.array("i")
    for level, kind, rows in extra:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            descriptors.frombytes(rows[: len(rows) - len(rows) % descriptors.itemsize])
    return data, list(descriptors)


def yield_to_the_server():
    """Be the kernel's victim before the server when CPU time or memory runs out, as commands are."""
    try:
        os.nice(max(0, COMMAND_NICE - os.nice(0)))
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass  # where that is not to be had, commands do without it too


def give_up_everything(user):
    """Become the commands' user without capabilities, and verify it. Raises OSError."""
    template = os.getuid()
    if template != user:
        os.setresuid(user, user, user)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    checked(LIBC.capset(header, (ctypes.c_uint32 * 6)()))
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    left = (ctypes.c_uint32 * 6)()
    checked(LIBC.capget(header, left))
    if any(left) or set(os.getresuid()) != {user}:
        raise PermissionError("a fork of the template kept something of it")
    prctl(PR_SET_DUMPABLE, 1)  # as a command is, whose /proc its own user may read


def environment_room():
    """Return where the kernel looks for this process's environment: (address, size)."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[47]), int(fields[48])  # env_start and env_end of proc(5), counted from the state
    return start, end - start


def show_environment(environment, room):
    """Show the environment in `/proc/PID/environ`, as far as it fits: it identifies the command."""
    address, size = room
    text = b"".join(os.fsencode(f"{key}={value}") + b"\0" for key, value in environment.items())
    if address and size:
        ctypes.memset(address, 0, size)
        ctypes.memmove(address, text[: size - 1], min(len(text), size - 1))


def checked(result):
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def prctl(option, value):
    return checked(LIBC.prctl(option, ctypes.c_ulong(value), 0, 0, 0))
