"""Limits of the sandbox: setting those that the server can, and detecting which limit a command hit."""

from __future__ import annotations

import os
import resource

MEMORY_EVENTS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")
PIDS_EVENTS = ("/sys/fs/cgroup/pids.events", "/sys/fs/cgroup/pids/pids.events")
SAID = (("files", (b"Too many open files",)), ("disk", (b"No space left on device",)))
SAID_UNCOUNTED = (
    ("memory", (b"MemoryError", b"Cannot allocate memory")),
    ("pids", (b"Resource temporarily unavailable", b"Cannot fork")),
)
"""Messages about limits that the kernel counts by itself where cgroups exist."""


class Counter:
    """How often the kernel enforced a limit on this sandbox, from a file of its cgroup."""

    def __init__(self, paths, word):
        self.word = word
        self.descriptor = next((os.open(path, os.O_RDONLY) for path in paths if os.path.exists(path)), None)

    def value(self):
        """The count; 0 where the file does not exist."""
        if self.descriptor is None:
            return 0
        for row in os.pread(self.descriptor, 1024, 0).splitlines():
            name, _, number = row.partition(b" ")
            if name == self.word:
                return int(number)
        return 0


class Limits:
    """The limits that are compared before and after every command."""

    def begin(self, disks, processes):
        """Find the counters. `disks`: folders that commands may write to; `processes`: their limit."""
        self.processes = processes
        self.kills = Counter(MEMORY_EVENTS, b"oom_kill")
        self.refusals = Counter(PIDS_EVENTS, b"max")
        self.disks = [path for path in disks if os.path.isdir(path)]

    def state(self):
        """Return the state that `hit` compares: two counts, and the disks that are full."""
        full = set()
        for path in self.disks:
            disk = os.statvfs(path)
            if not disk.f_bavail or not disk.f_ffree:
                full.add(path)
        return self.kills.value(), self.refusals.value(), full

    def crowded(self, others):
        """Whether this number of processes plus the command that just ended reaches the process limit;
        used where the kernel does not count refusals."""
        return self.refusals.descriptor is None and others + 1 >= self.processes

    def hit(self, before, code, stderr):
        """Return the limit hit since the state `before`: None, `memory`, `pids`, `disk` or `files`.

        Exact for memory and processes where cgroups exist. The kernel does not count refused opens, and a
        disk may have been emptied again: then the last words of a failed command decide.
        """
        kills, refusals, full = self.state()
        if kills > before[0]:
            return "memory"
        if refusals > before[1]:
            return "pids"
        if full - before[2]:
            return "disk"
        if code in (0, None):
            return None
        words = SAID if self.refusals.descriptor is not None else SAID + SAID_UNCOUNTED
        return next((limit for limit, texts in words if any(text in stderr for text in texts)), None)


LIMITS = Limits()


def limit_resources(open_files, processes):
    """Bound this program and all its descendants; `processes` applies where no cgroup bounds them."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if processes:
        resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))
