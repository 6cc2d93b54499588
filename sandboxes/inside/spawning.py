"""Start commands through a small process that does nothing else.

The *starter* is a child of this program. It takes the policy's user only while it makes a command's process
(`posix_spawn`, which copies no memory), and gives it up again: only in that moment can a command signal it or
change its limits. So each start has a deadline, and a starter that was disturbed or killed is replaced; its
commands then become this program's children. A starter reports each exit before reaping the child (waitpid),
so that no exit is missed whenever the starter dies.
"""

from __future__ import annotations

import array
import errno
import marshal
import os
import signal
import socket
import threading
import time
from functools import lru_cache

from .starting import ANSWER, EXIT, Starting

START_S = 5.0  # longer than any start takes, however busy the machine


class Start:
    """A request to start a process."""

    def __init__(self, arguments, environment, cwd, streams):
        """`environment` is added to this program's own. Raises FileNotFoundError, ValueError."""
        self.arguments = without_null([os.fsencode(text) for text in arguments])
        rows = [os.fsencode(f"{key}={value}") for key, value in environment.items()]
        self.environment = {**own_environment(), **dict(row.split(b"=", 1) for row in without_null(rows))}
        self.cwd = without_null([os.fsencode(cwd)])[0]
        self.streams = streams  # the child's descriptor -> ours
        self.path = os.fsencode(program(arguments[0], cwd, environment.get("PATH")))

    def message(self):
        return marshal.dumps((self.path, self.arguments, self.environment, self.cwd, list(self.streams)))


@lru_cache
def own_environment():
    return dict(os.environb)


def without_null(texts):
    if any(b"\0" in text for text in texts):
        raise ValueError("embedded null byte")
    return texts


def program(name, cwd, path):
    """Find a program as a shell does. Raises FileNotFoundError."""
    if "/" in name:
        return name
    if path is None:
        return own_program(name)
    return find_program(name, [os.path.join(cwd, folder) for folder in path.split(":")])


@lru_cache
def own_program(name):
    """Find a program on the path of this program's own environment, which no command can write to."""
    return find_program(name, os.get_exec_path())


def find_program(name, folders):
    for folder in folders:
        found = os.path.join(folder, name)
        if os.path.exists(found):
            return found
    raise FileNotFoundError(errno.ENOENT, "No such file or directory", name)


class Starter:
    """The process that starts commands, as this program sees it."""

    def __init__(self, identity, ended):
        """`ended(pid, wait status)` is called at every exit. Raises OSError when the starter cannot start."""
        self.reaped = False  # its number may be another's then
        self.parent_sock, child_sock = socket.socketpair()
        exits_read, exits_write = os.pipe()
        try:
            self.pid = os.fork()
        except BaseException:
            self.parent_sock.close()
            os.close(exits_read)
            raise
        else:
            if self.pid == 0:
                Starting(identity, child_sock, exits_write).run()
        finally:
            child_sock.close()
            os.close(exits_write)
        threading.Thread(target=self.listen, args=(exits_read, ended), daemon=True).start()

    def listen(self, exits_read, ended):
        while True:
            row = os.read(exits_read, EXIT.size)  # written in one piece
            if not row:
                os.close(exits_read)
                return
            ended(*EXIT.unpack(row))

    def start(self, job, until):
        """Return the new process's id. Raises OSError when the start fails, socket.timeout when the
        starter does not answer, `BrokenPipeError` and its like when it is dead."""
        self.parent_sock.settimeout(max(0.001, until - time.monotonic()))
        message = job.message()
        message = len(message).to_bytes(4, "big") + message
        handles = array.array("i", job.streams.values())
        sent = self.parent_sock.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, handles)])
        self.parent_sock.sendall(message[sent:])
        answer = self.parent_sock.recv(ANSWER.size)
        if len(answer) < ANSWER.size:
            raise BrokenPipeError
        pid, number = ANSWER.unpack(answer)
        if number:
            raise OSError(number, os.strerror(number), os.fsdecode(job.path))
        return pid

    def end(self):
        try:
            if not self.reaped:
                os.kill(self.pid, signal.SIGKILL)
        except OSError:
            pass  # it is dead
        self.parent_sock.close()


class Spawner:
    """Starts commands one after another, replacing a starter that failed."""

    def __init__(self):
        self.busy = threading.Lock()  # held while a child that has no program yet may exist
        self.starter = None

    def begin(self, identity, ended):
        self.identity = identity
        self.ended = ended

    def processes(self):
        """The starter's process id, while there is a starter."""
        starter = self.starter
        return set() if starter is None or starter.reaped else {starter.pid}

    def heard_of_end(self, pid):
        starter = self.starter
        if starter is not None and starter.pid == pid:
            starter.reaped = True

    def start(self, job, timeout_s):
        """Return the new process's id. Raises OSError when the start fails, TimeoutError at the deadline."""
        until = time.monotonic() + timeout_s
        if self.busy.acquire(timeout=timeout_s):
            try:
                while time.monotonic() < until:
                    if self.starter is None:  # until now: many sandboxes only fork their template
                        self.starter = Starter(self.identity, self.ended)
                    try:
                        return self.starter.start(job, until)
                    except socket.timeout:  # noqa: UP041 - another class before Python 3.10
                        break
                    except (BrokenPipeError, ConnectionResetError):
                        self.starter.end()
                        self.starter = None
            finally:
                self.busy.release()
        raise TimeoutError(errno.ETIMEDOUT, "it was kept from starting")


SPAWNER = Spawner()
