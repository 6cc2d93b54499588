"""Starting commands, in children that were made ahead of need.

A *starter* is a child of this program, under this program's user, that waits for one job: then it takes the
streams it is handed, becomes the policy's user and the command's program, in that order and without a pause.
Between the two steps a command may stop it, so whoever waits for a start has a deadline. Because the next
starter is made after a command's result is out, the time that copying this process takes is nobody's wait.
"""

from __future__ import annotations

import array
import errno
import fcntl
import marshal
import os
import signal
import socket
import threading
import time
from functools import lru_cache

START_S = 5.0  # longer than any start takes, however busy the machine
COMMAND_NICE = 5  # this program goes first when processor time is short
FIRST_FREE = 16  # streams of a command have lower numbers
STREAMS_LIMIT = 8


class Start:
    """A process to be started."""

    def __init__(self, arguments, environment, cwd, streams):
        """`environment` goes on top of this program's own. Raises FileNotFoundError, ValueError."""
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
    """Where a program is, looked for as a shell does. Raises FileNotFoundError."""
    if "/" in name:
        return name
    if path is None:
        return own_program(name)
    return find_program(name, [os.path.join(cwd, folder) for folder in path.split(":")])


@lru_cache
def own_program(name):
    """On the path of this program's own environment, which no command can write to."""
    return find_program(name, os.get_exec_path())


def find_program(name, folders):
    for folder in folders:
        found = os.path.join(folder, name)
        if os.path.exists(found):
            return found
    raise FileNotFoundError(errno.ENOENT, "No such file or directory", name)


class Starter:
    """A child that waits to become a command."""

    def __init__(self, identity):
        """Raises OSError where no process is to be had."""
        self.mouth, ear = socket.socketpair()
        try:
            self.pid = os.fork()
        except BaseException:
            self.mouth.close()
            raise
        else:
            if self.pid == 0:
                wait_for_job(identity, ear)
        finally:
            ear.close()

    def run(self, job, until):
        """Hand it the job. Raises OSError: of `BrokenPipeError` and its like it died before, else cannot start;
        TimeoutError when something holds it up.
        """
        try:
            said = self.tell(job, until)
        except socket.timeout:
            signal_one(self.pid, signal.SIGKILL)
            raise TimeoutError(errno.ETIMEDOUT, "it was kept from starting") from None
        finally:
            self.mouth.close()
        if said:
            number = int.from_bytes(said, "big")
            raise OSError(number, os.strerror(number), os.fsdecode(job.path))

    def tell(self, job, until):
        """Send the job; return what comes back before it is a command: nothing, if all is well."""
        self.mouth.settimeout(max(0.001, until - time.monotonic()))
        message = job.message()
        message = len(message).to_bytes(4, "big") + message
        handles = array.array("i", job.streams.values())
        sent = self.mouth.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, handles)])
        self.mouth.sendall(message[sent:])
        return self.mouth.recv(4)


def wait_for_job(identity, ear):
    """What the child does. Never returns."""
    number = errno.EINVAL
    try:
        let_go_of_all_but(ear.fileno())
        job = receive_job(ear)
        if job is not None:
            become_command(identity, *job)
    except OSError as error:
        number = error.errno or number
    finally:
        try:
            ear.sendall(number.to_bytes(4, "big"))
        finally:
            os._exit(127)


def let_go_of_all_but(descriptor):
    """Close the channel and the pipes of other commands, which would otherwise wait for this child's end."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)
    os.closerange(3, descriptor)
    os.closerange(descriptor + 1, os.sysconf("SC_OPEN_MAX"))


def receive_job(ear):
    """The job with its streams, which have numbers from `FIRST_FREE` on; None when nobody asks any more."""
    room = socket.CMSG_SPACE(STREAMS_LIMIT * array.array("i").itemsize)
    data, extra, _, _ = ear.recvmsg(4, room)
    if not data:
        return None
    handles = array.array("i")
    for _, _, rights in extra:
        handles.frombytes(rights)
    while len(data) < 4:
        data += ear.recv(4 - len(data))
    size = int.from_bytes(data, "big")
    parts = []
    while size:
        parts.append(ear.recv(min(size, 1 << 16)))
        size -= len(parts[-1])
        if not parts[-1]:
            return None
    path, arguments, environment, cwd, numbers = marshal.loads(b"".join(parts))
    return path, arguments, environment, cwd, dict(zip(numbers, map(out_of_the_way, handles)))


def out_of_the_way(descriptor):
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE)
    os.close(descriptor)
    return moved


def become_command(identity, path, arguments, environment, cwd, streams):
    """Raises OSError where that is not possible."""
    os.setsid()
    if identity.server is not None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores
        signal.signal(number, signal.SIG_DFL)
    for theirs, ours in streams.items():
        os.dup2(ours, theirs)
    os.chdir(cwd)
    os.nice(COMMAND_NICE)
    identity.become_user()
    os.execve(path, arguments, environment)


class Spawner:
    """Starts commands, one after the other."""

    def __init__(self):
        self.identity = None
        self.waiting = None
        self.busy = threading.Lock()  # held while a child that has no program yet has the policy's user

    def begin(self, identity):
        self.identity = identity
        self.prepare()

    def prepare(self):
        """Have a starter ready, if that is possible now; otherwise the next start makes its own."""
        if self.waiting is None and self.busy.acquire(blocking=False):
            try:
                self.waiting = self.waiting or Starter(self.identity)
            except OSError:
                pass  # commands use up every process there may be
            finally:
                self.busy.release()

    def start(self, job, timeout_s):
        """The new process's id. Raises OSError when it cannot be started, TimeoutError when it is held up."""
        until = time.monotonic() + timeout_s
        if not self.busy.acquire(timeout=timeout_s):
            raise TimeoutError(errno.ETIMEDOUT, "it was kept from starting")
        try:
            return self.start_by_any(job, until)
        finally:
            self.busy.release()

    def start_by_any(self, job, until):
        while True:
            starter, self.waiting = self.waiting or Starter(self.identity), None
            try:
                starter.run(job, until)
            except (BrokenPipeError, ConnectionResetError):  # killed while it waited
                if time.monotonic() < until:
                    continue
                raise TimeoutError(errno.ETIMEDOUT, "it was kept from starting") from None
            let_the_kernel_pick(starter.pid)
            return starter.pid


def let_the_kernel_pick(pid):
    """A command, not this program, when memory runs out."""
    try:
        with open(f"/proc/{pid}/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass  # it ended by itself


def signal_one(pid, number):
    try:
        os.kill(pid, number)
    except OSError:
        pass  # it ended by itself


SPAWNER = Spawner()
