"""Run one command to its end or deadline, with its output in bounded memory."""

from __future__ import annotations

import itertools
import os
import select
import threading
import time

from .files import WORKDIR
from .forking import FORKER, Fork, TemplateGone
from .limits import LIMITS
from .processes import (
    MARK,
    OWN,
    REAPER,
    background,
    end_background,
    kill_command,
    kill_everything,
    process_numbers,
)
from .spawning import START_S, Start

REPORT_VARIABLE = "DAYTHREE_REPORT_FD"
PREFIX = []  # put before every command where no cgroup bounds its memory
REPORT_DESCRIPTOR = 3
REPORT_LIMIT = 16 << 20
SPOOL_LIMIT = 16 << 20
DRAIN_S = 0.2  # how long output may trail behind the end of a command


class Output:
    """An output stream in bounded memory: first and last half of `limit`; the whole in a file once cut."""

    numbers = itertools.count(1)

    def __init__(self, limit):
        self.half = max(1, limit // 2)
        self.head = bytearray()
        self.tail = bytearray()
        self.total = 0
        self.spool = None
        self.spool_path = ""

    def take(self, data):
        if self.total + len(data) > 2 * self.half and not self.spool_path:
            self.open_spool()
        self.total += len(data)
        self.write_spool(data)
        room = self.half - len(self.head)
        if room > 0:
            self.head += data[:room]
            data = data[room:]
        self.tail += data
        if len(self.tail) > 4 * self.half + 65_536:  # trimmed now and then, not at every chunk
            del self.tail[: -self.half]

    def open_spool(self):
        self.spool_path = f"/tmp/output-{next(Output.numbers)}.txt"
        try:
            self.spool = open(self.spool_path, "xb", buffering=0)  # noqa: SIM115 - open until `text`
        except OSError:
            return
        self.write_spool(bytes(self.head + self.tail))

    def write_spool(self, data):
        if self.spool is None:
            return
        try:
            self.spool.write(data[: max(0, SPOOL_LIMIT - self.spool.tell())])
        except OSError:  # disk full: the file stays, and need not be complete
            self.spool.close()
            self.spool = None

    @property
    def cut(self):
        return self.total > 2 * self.half

    def text(self):
        """Return the kept output, with a line in place of the cut part."""
        if not self.cut:
            return bytes(self.head + self.tail)
        head = bytes(self.head)
        if ends_torn(head):
            head = head.decode("utf-8", "ignore").encode()
        tail = bytes(self.tail[-self.half :])
        while tail and tail[0] & 0xC0 == 0x80 and len(tail) > self.half - 3:
            tail = tail[1:]
        where = ""
        if self.spool is not None:
            which = "the whole" if self.total <= SPOOL_LIMIT else f"the first {SPOOL_LIMIT >> 20} MiB"
            where = f"; {which} is in {self.spool_path}"
            self.spool.close()
        line = f"\n[... {self.total - len(head) - len(tail)} bytes cut{where} ...]\n"
        return head + line.encode() + tail


def ends_torn(data):
    """Whether otherwise valid UTF-8 ends in the middle of a character."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return False


class Report:
    """The first 16 MiB written to the report descriptor."""

    def __init__(self):
        self.data = bytearray()

    def take(self, data):
        self.data += data[: REPORT_LIMIT - len(self.data)]


class Command:
    """A running command and the pipes to it."""

    numbers = itertools.count(1)

    def __init__(self, arguments, *, timeout_s, cwd, env, stdin, limit, report, forked=False):
        self.mark = f"{os.getpid()}-{next(Command.numbers)}"
        self.stdout, self.stderr, self.report = Output(limit), Output(limit), Report()
        self.status = None
        self.input = memoryview(stdin)
        self.sinks = {}  # descriptor -> callable that takes the bytes
        self.theirs = []  # the command's ends, closed here once it runs
        self.started = False
        self.crowded = False  # whether no further process could be had at its end
        self.forked = False
        self.stdin = -1  # no descriptor
        self.wake, self.bell = os.pipe()
        try:
            self.spawn(arguments, cwd, env, timeout_s, report=report, forked=forked)
        except BaseException:
            self.close()
            raise
        finally:
            for descriptor in self.theirs:
                os.close(descriptor)

    def spawn(self, arguments, cwd, env, timeout_s, *, report, forked):
        environment = {MARK: "", **env}
        environment[MARK] = self.mark  # first, where there is not room for all of it (`forking.ROOM`)
        streams = {1: self.pipe_from(self.stdout), 2: self.pipe_from(self.stderr)}
        if report:
            streams[REPORT_DESCRIPTOR] = self.pipe_from(self.report)
            environment[REPORT_VARIABLE] = str(REPORT_DESCRIPTOR)
        if self.input:
            streams[0], self.stdin = os.pipe()
            os.set_blocking(self.stdin, False)
        else:
            streams[0] = os.open(os.devnull, os.O_RDONLY)
        self.theirs.append(streams[0])
        if not forked or not self.fork(environment, cwd, streams, timeout_s):
            job = Start([*PREFIX, *arguments], environment, cwd, streams)
            self.pid = REAPER.start(self, job, min(timeout_s, START_S))
        self.started = True

    def fork(self, environment, cwd, streams, timeout_s):
        """Ask the template for a fork; return False when no template answers."""
        try:
            self.pid = REAPER.start(self, Fork(environment, cwd, streams), timeout_s, by=FORKER)
        except TemplateGone:
            return False
        self.forked = True
        return True

    def pipe_from(self, sink):
        """Make a pipe that `sink` reads; return its write end."""
        ours, theirs = os.pipe()
        self.sinks[ours] = sink
        self.theirs.append(theirs)
        os.set_blocking(ours, False)
        return theirs

    def ended(self, status):
        """Record the exit status. Called by the reaper, which holds its lock."""
        self.status = status
        if self.bell != -1:
            os.write(self.bell, b".")

    def wait(self, until):
        """Transfer bytes until the command has ended or the deadline has come."""
        while self.status is None and time.monotonic() < until:
            self.move(until)

    def drain(self, until):
        """Read what is left in the pipes. A process that keeps one open past `until` is not waited for."""
        while self.sinks and time.monotonic() < until:
            self.move(until)

    def move(self, until):
        poll = select.poll()
        if self.status is None:
            poll.register(self.wake, select.POLLIN)
        for descriptor in self.sinks:
            poll.register(descriptor, select.POLLIN)
        if self.stdin != -1:
            poll.register(self.stdin, select.POLLOUT)
        for descriptor, _ in poll.poll(max(0.0, until - time.monotonic()) * 1000):
            if descriptor == self.stdin:
                self.feed()
            elif descriptor in self.sinks:
                self.take(descriptor)

    def take(self, descriptor):
        try:
            data = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            return
        if data:
            self.sinks[descriptor].take(data)
        else:
            del self.sinks[descriptor]
            os.close(descriptor)

    def feed(self):
        try:
            self.input = self.input[os.write(self.stdin, self.input[: 1 << 16]) :]
        except BlockingIOError:
            return
        except OSError:  # the command does not want the rest
            self.input = self.input[:0]
        if not self.input:
            os.close(self.stdin)
            self.stdin = -1

    def close(self):
        """Release the pipes. A background process may go on printing; its output is discarded."""
        with REAPER.lock:
            os.close(self.bell)
            self.bell = -1
        os.close(self.wake)
        if self.stdin != -1:
            os.close(self.stdin)
            self.stdin = -1
        left, self.sinks = list(self.sinks), {}
        if left and not self.started:
            for descriptor in left:
                os.close(descriptor)
        elif left:
            discard_later(left)


def discard_later(descriptors):
    try:
        threading.Thread(target=discard, args=(descriptors,), daemon=True).start()
    except RuntimeError:  # no process to be had: the background process has to do without a reader
        for descriptor in descriptors:
            os.close(descriptor)


def discard(descriptors):
    """Read a background process's output until it ends, so that it neither blocks nor dies of SIGPIPE."""
    poll = select.poll()
    for descriptor in descriptors:
        os.set_blocking(descriptor, True)
        poll.register(descriptor, select.POLLIN)
    while descriptors:
        for descriptor, _ in poll.poll():
            if not os.read(descriptor, 1 << 16):
                poll.unregister(descriptor)
                descriptors.remove(descriptor)
                os.close(descriptor)


def run_command(arguments, *, timeout_s, **options):
    """Run to the end or deadline; return the Command, its exit code (None: killed) and seconds."""
    started = time.monotonic()
    command = Command(arguments, timeout_s=timeout_s, **options)
    try:
        command.wait(started + timeout_s)
        timed_out = command.status is None
        command.crowded = LIMITS.crowded(len(process_numbers() - OWN.all()))
        if timed_out:
            kill_command(command.pid, command.mark)
            command.wait(time.monotonic() + 1.0)
        command.drain(time.monotonic() + DRAIN_S)
    finally:
        command.close()
    return command, None if timed_out else exit_code(command.status), time.monotonic() - started


def exit_code(status):
    """Return the exit code in a shell's terms: 128 + n for a process killed by signal n."""
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def do_exec(request, payload):
    command = request["command"]
    cwd = os.path.join(WORKDIR[0], request["cwd"] or ".")
    options = {
        "timeout_s": request["timeout_s"],
        "cwd": cwd,
        "env": request["env"],
        "stdin": payload,
        "limit": request["output_limit"],
        "report": request["report"],
        "forked": request["forked"],
    }
    before = LIMITS.state()
    try:
        done, code, duration_s = run_in_any_case(
            ["sh", "-c", command] if isinstance(command, str) else command, options
        )
    except TimeoutError as error:  # other commands of the policy see to it that none can start
        kill_everything()
        out_of_time = request["timeout_s"] <= START_S
        return not_started(error, cwd, None if out_of_time else 126, "time" if out_of_time else "pids")
    except (OSError, ValueError, IndexError) as error:
        missing = isinstance(error, FileNotFoundError)
        limit = "pids" if isinstance(error, BlockingIOError) else None
        return not_started(error, cwd, 127 if missing else 126, limit)
    parts = [done.stdout.text(), done.stderr.text(), bytes(done.report.data)]
    truncated = done.stdout.cut or done.stderr.cut
    limit = "pids" if done.crowded else LIMITS.hit(before, code, parts[1])
    if limit == "pids":  # or the next command could not fork
        kill_command(done.pid, done.mark)
    header = {
        "exit_code": code,
        "truncated": truncated,
        "duration_s": duration_s,
        "limit": limit or ("time" if code is None else "output" if truncated else None),
        "background": sorted(background().items()),
        "forked": done.forked,
        "sizes": [len(part) for part in parts],
    }
    return header, parts


def run_in_any_case(arguments, options):
    """Run a command. If background processes exhausted the process limit, kill them and try again."""
    try:
        return run_command(arguments, **options)
    except BlockingIOError:
        end_background()
        done = run_command(arguments, **options)
        done[0].crowded = True
        return done


def not_started(error, cwd, code, limit):
    """Return the ordinary result of a command that cannot start: 127 for a missing program, else 126."""
    if isinstance(error, FileNotFoundError) and not os.path.isdir(cwd):
        text = f"cannot start in {cwd}: no such directory\n"
    else:
        text = f"cannot start: {error}\n"
    message = text.encode("utf-8", "replace")
    header = {"exit_code": code, "truncated": False, "duration_s": 0.0, "limit": limit}
    header.update(background=sorted(background().items()), sizes=[0, len(message), 0])
    return header, [b"", message, b""]
