"""Processes inside the sandbox: waiting for them, finding their command, killing them."""

from __future__ import annotations

import os
import re
import signal
import threading
import time

from .spawning import SPAWNER

FEW = 24  # processes that are looked through one by one
MARK = "DAYTHREE_COMMAND"  # in the environment of everything a command starts


class Reaper:
    """Waits for every child, reports exits of commands, and reaps orphans."""

    def __init__(self):
        self.lock = threading.Lock()
        self.commands = {}  # pid -> Command
        self.starting = 0  # commands that are about to be in `commands`
        self.early = {}  # pid -> status of children that ended while one was starting
        self.spawned = threading.Event()

    def begin(self):
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                pid, status = os.waitpid(-1, 0)
            except ChildProcessError:
                self.spawned.wait(0.5)  # the bound reaps orphans that no command waits for
                self.spawned.clear()
                continue
            self.ended(pid, status)

    def ended(self, pid, status):
        """Record an exit. Also called by the starter and the template, the parents of live commands."""
        with self.lock:
            command = self.commands.pop(pid, None)
            if command is not None:
                command.ended(status)
            elif self.starting:
                self.early[pid] = status
        SPAWNER.heard_of_end(pid)

    def start(self, command, job, timeout_s, by=None):
        """Start a process such that its exit cannot be missed; return its id. Raises OSError."""
        with self.lock:
            self.starting += 1
        pid = None
        try:
            pid = (by or SPAWNER).start(job, timeout_s)
        finally:
            with self.lock:
                self.starting -= 1
                if pid in self.early:
                    command.ended(self.early[pid])
                elif pid is not None:
                    self.commands[pid] = command
                if not self.starting:
                    self.early.clear()
        self.spawned.set()
        return pid


REAPER = Reaper()


class Own:
    """This program's own processes, which never count as a command's."""

    def begin(self, identity, keeper, kept):
        """`keeper` is this process's parent, None without one; `kept` are other processes of this program."""
        self.identity = identity
        self.others = set(kept) if keeper is None else {keeper, *kept}
        self.parents = {os.getpid()} if keeper is None else {os.getpid(), keeper}  # of orphans
        self.alone = keeper is not None or os.getpid() == 1  # with its commands, in a PID namespace

    def all(self):
        return {os.getpid()} | self.others | SPAWNER.processes()


OWN = Own()


def process_numbers():
    return {int(name) for name in os.listdir("/proc") if name.isdigit()}


def process_table():
    """Return every live process: pid -> (parent, session, mark or None, name)."""
    table = {}
    for name in map(str, process_numbers()):
        try:
            with open("/proc/" + name + "/stat", "rb") as file:
                text, _, rest = file.read().rpartition(b")")
            state, parent, _, session = rest.split()[:4]
            if state in (b"Z", b"X"):
                continue
            called = text.partition(b"(")[2].decode("utf-8", "replace")
            table[int(name)] = (int(parent), int(session), process_mark(name), called)
        except (OSError, ValueError):
            continue  # it ended meanwhile
    return table


def process_mark(pid):
    """Return the id of the command that started a process, from the process's environment."""
    try:
        with open("/proc/" + pid + "/environ", "rb") as file:
            found = re.search(rb"(?:^|\0)" + MARK.encode() + rb"=([^\0]*)", file.read())
    except OSError:
        return None
    return found.group(1).decode("ascii", "replace") if found else None


def belonging(root, mark):
    """Return a command's processes: its session, its descendants, and all processes with its mark.

    An orphan without a mark has cleared its environment. It counts for every command, so that no process
    escapes a deadline that way.
    """
    table, commands = survey()
    found = set()
    for pid, (parent, session, own_mark, _) in table.items():
        hidden = own_mark is None and parent in OWN.parents and pid not in commands
        if root in (pid, session) or own_mark == mark or hidden:
            found.add(pid)
    return found | descendants(table, found)


def survey():
    """Return the table of all processes but our own, and the running commands: pid -> Command."""
    undisturbed = SPAWNER.busy.acquire(timeout=1.0)  # a child without its program carries no mark yet
    try:
        table, own = process_table(), OWN.all()
        ours = set(table) if OWN.alone else descendants(table, {os.getpid()})
        table = {pid: row for pid, row in table.items() if pid in ours and pid not in own}
        with REAPER.lock:
            return table, dict(REAPER.commands)
    finally:
        if undisturbed:
            SPAWNER.busy.release()


def background():
    """Return processes left by ended commands: pid -> name."""
    if process_numbers() <= OWN.all():
        return {}
    table, commands = survey()
    marks = {command.mark for command in commands.values()}
    running = {pid for pid, row in table.items() if pid in commands or row[1] in commands or row[2] in marks}
    running |= descendants(table, running)
    return {pid: row[3] for pid, row in table.items() if pid not in running}


def end_background():
    """Kill processes left by ended commands, and wait until they are gone."""
    with REAPER.lock:
        alone = not REAPER.commands
    if alone:
        kill_everything()
        until = time.monotonic() + 3.0
        while background() and time.monotonic() < until:
            time.sleep(0.005)
        return
    kill_found(lambda: set(background()))


def descendants(table, ancestors):
    """Return all live descendants of some processes, as far as their parents live."""
    found = set(ancestors)
    while True:
        born = {pid for pid, row in table.items() if row[0] in found} - found
        if not born:
            return found - set(ancestors)
        found |= born


def signal_all(pids, number):
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:
            pass  # gone, or not ours


def kill_command(root, mark):
    """Kill a command and its processes.

    The process group first, in one system call that no fork can outrun; then detached processes.
    """
    signal_all([-root], signal.SIGKILL)
    kill_found(lambda: belonging(root, mark))


def kill_everything():
    """Kill every process ever started here. Orphans are children of this process by now."""
    if OWN.identity.reaches_everyone:
        OWN.identity.signal_everyone(signal.SIGKILL)
    else:
        kill_found(lambda: descendants(process_table(), {os.getpid()}))


def kill_found(find):
    """Kill the processes that `find` returns, and those that they start meanwhile.

    Each is stopped before it is killed, so that it cannot fork in between. If they are many, or fork faster
    than that, all processes are stopped at once by one system call, and the spared ones continue afterwards.
    """
    if len(process_numbers()) <= FEW and kill_one_by_one(find, patience_s=0.5):
        return
    signal_everyone = OWN.identity.signal_everyone if OWN.identity.reaches_everyone else lambda _: None
    signal_everyone(signal.SIGSTOP)
    try:
        kill_one_by_one(find, patience_s=3.0)
    finally:
        signal_everyone(signal.SIGCONT)


def kill_one_by_one(find, patience_s):
    """Stop and kill what `find` returns until it returns nothing; return whether that came in time."""
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        stopped = set()
        while time.monotonic() < until:
            fresh = find() - stopped
            if not fresh:
                break
            signal_all(fresh, signal.SIGSTOP)
            stopped |= fresh
        if not stopped:
            return True
        signal_all(stopped, signal.SIGKILL)
        time.sleep(0.002)
    return False
