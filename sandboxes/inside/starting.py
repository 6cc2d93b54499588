"""The starter's own side: the single-threaded process that starts commands (`inside.spawning`)."""

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

COMMAND_NICE = 5  # this program goes first when processor time is short
FIRST_FREE = 16  # streams of a command have lower numbers
STREAMS_LIMIT = 8
ANSWER = struct.Struct("ii")  # process id, number of `errno`
EXIT = struct.Struct("ii")  # process id, wait status
CATCHABLE = frozenset(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}
"""Signals that a command finds at their defaults. Python ignores two, `nohup` and a script's `&` others."""


class Starting:
    """Waits for jobs and for exits of the processes that it started."""

    def __init__(self, identity, child_sock, exits_write):
        self.identity = identity
        self.child_sock = child_sock
        self.exits_write = exits_write

    def run(self):
        """Start processes on request until the connection ends. Never returns."""
        try:
            let_go_of_all_but(self.child_sock.fileno(), self.exits_write)
            wake, alarm = os.pipe()
            os.set_blocking(wake, False)
            os.set_blocking(alarm, False)
            signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
            signal.signal(signal.SIGCHLD, lambda *_: None)
            untouched = own_limits()
            poll = select.poll()
            poll.register(self.child_sock, select.POLLIN)
            poll.register(wake, select.POLLIN)
            while own_limits() == untouched:
                for descriptor, _ in poll.poll():
                    if descriptor != wake:
                        self.serve(receive_job(self.child_sock))
                    else:
                        os.read(wake, 1 << 10)
                        self.reap()
        except (OSError, EOFError):
            pass  # the requester is gone
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
        self.child_sock.sendall(ANSWER.pack(pid, number))

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
                setsigdef=CATCHABLE,
            )
            let_the_kernel_pick(pid)
        return pid

    def reap(self):
        """Report each exit, then reap the child (waitpid)."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            killed = ended.si_code in (os.CLD_KILLED, os.CLD_DUMPED)
            status = ended.si_status if killed else ended.si_status << 8  # as `waitpid` says it
            os.write(self.exits_write, EXIT.pack(ended.si_pid, status))
            os.waitpid(ended.si_pid, 0)


def own_limits():
    """Return all settings of this process that a command may have changed."""
    every = [resource.getrlimit(number) for number in range(16)]  # RLIM_NLIMITS
    return every, os.getpriority(os.PRIO_PROCESS, 0), os.sched_getaffinity(0), os.sched_getscheduler(0)


def let_go_of_all_but(*kept):
    """Close all descriptors but `kept`: the channel and commands' pipes would never reach their end."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)
    first = 3
    for descriptor in sorted(kept):
        os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))


def receive_job(child_sock):
    """Return the next job with its streams, numbered from `FIRST_FREE` on. Raises EOFError."""
    room = socket.CMSG_SPACE(STREAMS_LIMIT * array.array("i").itemsize)
    data, extra, _, _ = child_sock.recvmsg(4, room)
    handles = array.array("i")
    for _, _, rights in extra:
        handles.frombytes(rights)
    size = int.from_bytes(data + exactly(child_sock, 4 - len(data)), "big")
    path, arguments, environment, cwd, numbers = marshal.loads(exactly(child_sock, size))
    return path, arguments, environment, cwd, dict(zip(numbers, map(out_of_the_way, handles)))  # noqa: B905 - from Python 3.10 on


def exactly(child_sock, size):
    parts = []
    while size:
        parts.append(child_sock.recv(min(size, 1 << 16)))
        if not parts[-1]:
            raise EOFError
        size -= len(parts[-1])
    return b"".join(parts)


def out_of_the_way(descriptor):
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE)
    os.close(descriptor)
    return moved


def let_the_kernel_pick(pid):
    """Make a command the kernel's victim, not this program, when CPU time or memory runs out."""
    try:
        nice = os.getpriority(os.PRIO_PROCESS, pid)
        os.setpriority(os.PRIO_PROCESS, pid, max(nice, COMMAND_NICE))
        with open(f"/proc/{pid}/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass  # it ended by itself
