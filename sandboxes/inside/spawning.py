"""Starting commands, by a small process that does nothing else.

The *starter* is a child of this program. It takes the policy's user only while it makes a command's process
(`posix_spawn`, which copies no memory), and gives it up again: in that moment alone a command may signal it or
change its limits. So whoever waits for a start has a deadline, and a starter that was touched or killed is
replaced; what it started are this program's children then. A starter tells the end of every command before
it buries it, so that none is missed whenever it dies.
"""

from __future__ import annotations

import array
import errno
import fcntl
import marshal
import os
import resource
import select
import signal
import socket
import struct
import threading
import time
from functools import lru_cache

START_S = 5.0  # longer than any start takes, however busy the machine
COMMAND_NICE = 5  # this program goes first when processor time is short
FIRST_FREE = 16  # streams of a command have lower numbers
STREAMS_LIMIT = 8
ANSWER = struct.Struct("ii")  # process id, number of `errno`
DEATH = struct.Struct("ii")  # process id, wait status


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
    """The process that starts commands, seen from this program."""

    def __init__(self, identity, ended):
        """`ended` is told every process id and wait status. Raises OSError where no process is to be had."""
        self.mouth, ear = socket.socketpair()
        deaths, scythe = os.pipe()
        try:
            self.pid = os.fork()  # None when it is known to be dead
        except BaseException:
            self.mouth.close()
            os.close(deaths)
            raise
        else:
            if self.pid == 0:
                Starting(identity, ear, scythe).run()
        finally:
            ear.close()
            os.close(scythe)
        threading.Thread(target=self.listen, args=(deaths, ended), daemon=True).start()

    def listen(self, deaths, ended):
        while True:
            row = os.read(deaths, DEATH.size)  # written in one piece
            if not row:
                os.close(deaths)
                return
            ended(*DEATH.unpack(row))

    def start(self, job, until):
        """The new process's id. Raises OSError when it cannot be started, socket.timeout when the starter does
        not answer, `BrokenPipeError` and its like when it is dead.
        """
        self.mouth.settimeout(max(0.001, until - time.monotonic()))
        message = job.message()
        message = len(message).to_bytes(4, "big") + message
        handles = array.array("i", job.streams.values())
        sent = self.mouth.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, handles)])
        self.mouth.sendall(message[sent:])
        answer = self.mouth.recv(ANSWER.size)
        if len(answer) < ANSWER.size:
            raise BrokenPipeError
        pid, number = ANSWER.unpack(answer)
        if number:
            raise OSError(number, os.strerror(number), os.fsdecode(job.path))
        return pid

    def end(self):
        try:
            if self.pid is not None:
                os.kill(self.pid, signal.SIGKILL)
        except OSError:
            pass  # it is dead
        self.mouth.close()


class Starting:
    """The starter, seen from itself. It has one thread."""

    def __init__(self, identity, ear, scythe):
        self.identity = identity
        self.ear = ear
        self.scythe = scythe

    def run(self):
        """Start what is asked for until nobody asks. Never returns."""
        try:
            let_go_of_all_but(self.ear.fileno(), self.scythe)
            wake, alarm = os.pipe()
            os.set_blocking(wake, False)
            os.set_blocking(alarm, False)
            signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
            signal.signal(signal.SIGCHLD, lambda *_: None)
            untouched = own_limits()
            poll = select.poll()
            poll.register(self.ear, select.POLLIN)
            poll.register(wake, select.POLLIN)
            while own_limits() == untouched:
                for descriptor, _ in poll.poll():
                    if descriptor != wake:
                        self.serve(receive_job(self.ear))
                    else:
                        os.read(wake, 1 << 10)
                        self.bury()
        except (OSError, EOFError):
            pass  # nobody asks any more
        finally:
            os._exit(0)

    def serve(self, job):
        pid, number = 0, 0
        try:
            pid = self.spawn(*job)
        except OSError as error:
            number = error.errno or errno.EINVAL
        except ValueError:
            number = errno.EINVAL
        finally:
            for descriptor in job[-1].values():
                os.close(descriptor)
            os.chdir("/")
        self.ear.sendall(ANSWER.pack(pid, number))

    def spawn(self, path, arguments, environment, cwd, streams):
        os.chdir(cwd)
        actions = [(os.POSIX_SPAWN_DUP2, ours, theirs) for theirs, ours in streams.items()]
        with self.identity.being_user():
            pid = os.posix_spawn(
                path,
                arguments,
                environment,
                file_actions=actions,
                setsid=True,
                setsigmask=(),
                setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),  # which Python ignores
            )
            let_the_kernel_pick(pid)
        return pid

    def bury(self):
        """Tell who ended, then let the kernel forget it."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            killed = ended.si_code in (os.CLD_KILLED, os.CLD_DUMPED)
            status = ended.si_status if killed else ended.si_status << 8  # as `waitpid` says it
            os.write(self.scythe, DEATH.pack(ended.si_pid, status))
            os.waitpid(ended.si_pid, 0)


def own_limits():
    """What a command may have changed of this process."""
    every = [resource.getrlimit(number) for number in range(16)]  # RLIM_NLIMITS
    return every, os.getpriority(os.PRIO_PROCESS, 0), os.sched_getaffinity(0), os.sched_getscheduler(0)


def let_go_of_all_but(*kept):
    """Close the channel and the pipes of commands, which would otherwise wait for this process's end."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)
    first = 3
    for descriptor in sorted(kept):
        os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))


def receive_job(ear):
    """The next job with its streams, which have numbers from `FIRST_FREE` on. Raises EOFError."""
    room = socket.CMSG_SPACE(STREAMS_LIMIT * array.array("i").itemsize)
    data, extra, _, _ = ear.recvmsg(4, room)
    handles = array.array("i")
    for _, _, rights in extra:
        handles.frombytes(rights)
    size = int.from_bytes(data + exactly(ear, 4 - len(data)), "big")
    path, arguments, environment, cwd, numbers = marshal.loads(exactly(ear, size))
    return path, arguments, environment, cwd, dict(zip(numbers, map(out_of_the_way, handles)))


def exactly(ear, size):
    parts = []
    while size:
        parts.append(ear.recv(min(size, 1 << 16)))
        if not parts[-1]:
            raise EOFError
        size -= len(parts[-1])
    return b"".join(parts)


def out_of_the_way(descriptor):
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE)
    os.close(descriptor)
    return moved


def let_the_kernel_pick(pid):
    """A command, not this program, when processor time or memory runs out."""
    try:
        os.setpriority(os.PRIO_PROCESS, pid, COMMAND_NICE)
        with open(f"/proc/{pid}/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass  # it ended by itself


class Spawner:
    """Starts commands, one after the other."""

    def __init__(self):
        self.identity = None
        self.ended = None
        self.starter = None
        self.busy = threading.Lock()  # held while a child that has no program yet may exist

    def begin(self, identity, ended):
        self.identity = identity
        self.ended = ended
        self.starter = Starter(identity, ended)

    def start(self, job, timeout_s):
        """The new process's id. Raises OSError when it cannot be started, TimeoutError when it is held up."""
        until = time.monotonic() + timeout_s
        if self.busy.acquire(timeout=timeout_s):
            try:
                while time.monotonic() < until:
                    try:
                        return self.starter.start(job, until)
                    except socket.timeout:
                        break
                    except (BrokenPipeError, ConnectionResetError):
                        self.replace()
            finally:
                self.busy.release()
        raise TimeoutError(errno.ETIMEDOUT, "it was kept from starting")

    def replace(self):
        self.starter.end()
        self.starter = Starter(self.identity, self.ended)


SPAWNER = Spawner()
