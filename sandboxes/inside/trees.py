"""Whole directory trees inside the sandbox: walking them, and comparing them with a known state."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import signal
import stat
import time

from .files import open_regular, read_bytes, resolve, shown
from .processes import background, signal_all

LEFT_OUT = (".git", "__pycache__")
FILLED = ("build", "dist", "target", "out", "htmlcov", "node_modules", "site-packages", "venv")
ENTRIES_LIMIT = 200_000  # of one tree, whatever is asked about it
CHANGED_FILES_LIMIT = 1_000
CHANGED_BYTES_LIMIT = 64 << 20
STOP_S = 1.0
KNOWN_FILE_LIMIT = 256 << 20  # a known file is compared up to here, however little of it may travel
KNOWN_BYTES_LIMIT = 1 << 30  # all known files that are too large to travel are compared up to here


def walk(root, until, refused=None):
    """Yield (relative path, DirEntry) of all but folders under `root`, in order, following no link."""
    seen = 0
    folders = [""]
    pending = [iter(sorted_entries(root, "", refused))]
    while pending:
        entry = next(pending[-1], None)
        if entry is None:
            pending.pop()
            folders.pop()
            continue
        seen += 1
        if seen % 256 == 0 and time.monotonic() > until:
            raise TimeoutError(f"the walk through {root} took too long")
        if seen > ENTRIES_LIMIT:
            if refused is not None:
                refused["..."] = "too many"
            return
        relative = folders[-1] + entry.name
        if not entry.is_dir(follow_symlinks=False):
            yield relative, entry
        elif entry.name not in LEFT_OUT:
            pending.append(iter(sorted_entries(entry.path, relative, refused)))
            folders.append(relative + "/")


def sorted_entries(path, relative, refused):
    try:
        with os.scandir(path) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        if not relative:
            raise
        if refused is not None:
            refused[shown(relative) + "/"] = "unreadable"
        return []


def do_changes(request, payload):
    """Answer `Sandbox.changes`. `payload` is JSON: relative path to SHA-256 of the known files."""
    known = json.loads(payload)
    changes = Changes(request["file_limit"], known)
    until = time.monotonic() + request["timeout_s"]
    new = []
    for relative, entry in walk(resolve(request["path"]), until, changes.skipped):
        if shown(relative) in known:
            changes.look(relative, entry)
        else:
            new.append((relative, entry))
    # When there is too much, the least likely work is left: what a build or an installation made.
    for relative, entry in sorted(new, key=lambda found: likely_a_product(found[0])):
        changes.look(relative, entry)
    changes.in_order()
    unknown = tuple(name for name in changes.skipped if name.endswith("/"))
    cut_off = "..." in changes.skipped
    lost = set(known) - changes.seen
    removed = [] if cut_off else sorted(name for name in lost if not name.startswith(unknown))
    answer = {
        "written": changes.written,
        "executable": changes.executable,
        "removed": removed,
        "skipped": changes.skipped,
    }
    text = json.dumps(answer).encode()
    return {"text": len(text)}, [text, *changes.contents]


class Changes:
    """The differences of a directory, collected entry by entry."""

    def __init__(self, file_limit, known):
        self.file_limit = file_limit
        self.known = known
        self.written = []  # [path, size]; contents in the same order
        self.contents = []
        self.executable = []
        self.skipped = {}
        self.seen = set()  # known paths that are still there in some form
        self.bytes = 0
        self.compared = 0

    def skip(self, name, reason):
        if name in self.known or len(self.skipped) < CHANGED_FILES_LIMIT:
            self.skipped[name] = reason

    def look(self, relative, entry):
        name = shown(relative)
        self.seen.add(name)
        try:
            self.look_at(name, relative, entry)
        except OSError:  # in a folder that may be listed and not entered, or gone meanwhile
            self.skip(name, "unreadable")

    def look_at(self, name, relative, entry):
        if entry.is_symlink():
            self.skip(name, "symlink")
        elif not entry.is_file(follow_symlinks=False) or os.fsencode(relative) != name.encode():
            self.skip(name, "special")
        else:
            self.compare(name, entry, self.known.get(name))

    def compare(self, name, entry, digest):
        limit = self.file_limit if digest is None else max(self.file_limit, KNOWN_FILE_LIMIT)
        found = entry.stat(follow_symlinks=False)
        size, marked = found.st_size, bool(found.st_mode & stat.S_IXUSR)
        self.compared += size if size > self.file_limit else 0
        if size > limit or self.compared > KNOWN_BYTES_LIMIT:
            self.skip(name, "too large")
            return
        if digest is None and self.is_full(size):
            self.skip(name, "too many")  # unread: a million sparse files take no time
            return
        descriptor = open_regular(entry.path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            data = read_bytes(descriptor, limit + 1)
        finally:
            os.close(descriptor)
        if hashlib.sha256(data).hexdigest() == digest:
            self.executable += [name] if marked else []
            return
        if len(data) > self.file_limit:
            self.skip(name, "too large")
            return
        if self.is_full(len(data)):
            self.skip(name, "too many")
        else:
            self.bytes += len(data)
            self.written.append([name, len(data)])
            self.contents.append(data)
            self.executable += [name] if marked else []

    def is_full(self, more):
        return len(self.written) >= CHANGED_FILES_LIMIT or self.bytes + more > CHANGED_BYTES_LIMIT

    def in_order(self):
        """Sort what was written by path."""
        places = sorted(range(len(self.written)), key=lambda place: self.written[place][0])
        self.written = [self.written[place] for place in places]
        self.contents = [self.contents[place] for place in places]


def likely_a_product(relative):
    """Tell whether a file lies in a hidden folder, or in one that builds and installations fill."""
    return any(part in FILLED or part.startswith(".") for part in relative.split("/")[:-1])


def do_running(request, _payload):
    """List background processes; with `stop`, stop them, else let them continue."""
    running = background()
    if request["stop"] is not None:
        signal_all(running, signal.SIGSTOP if request["stop"] else signal.SIGCONT)
    if request["stop"]:
        wait_until_stopped(running)
    return {"background": sorted(running.items())}, []


def wait_until_stopped(pids):
    """Wait: a process in the middle of a system call stops only at the end of the call."""
    until = time.monotonic() + STOP_S
    while any(state_of(pid) in "RSD" for pid in pids) and time.monotonic() < until:
        time.sleep(0.001)


def state_of(pid):
    """Return the letter of a process's state; `X` when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0].decode()
    except (OSError, IndexError):
        return "X"


def do_pack(request, _payload):
    """Pack a folder as an archive."""
    return {}, [packed(resolve(request["path"]), request["limit"])]


def packed(root, limit):
    """Return an uncompressed tar archive of a folder: readable files, folders and symbolic links.

    Raises OSError when it is longer than `limit` bytes.
    """
    import tarfile  # most sandboxes never pack, and starting is timed

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, folders, files in os.walk(root):
            for name in sorted(folders + files):
                full = os.path.join(path, name)
                pack_one(archive, full, os.path.relpath(full, root), limit)
                if buffer.tell() > limit:
                    raise too_much(root, limit)
    return buffer.getvalue()


def pack_one(archive, path, name, limit):
    """Add one entry, unless it is special, unreadable, or gone meanwhile."""
    try:
        info = archive.gettarinfo(path, name)
        if info is None or not (info.isreg() or info.islnk() or info.isdir() or info.issym()):
            return
        if info.isdir() or info.issym():
            archive.addfile(info)
            return
        descriptor = open_regular(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return
    with os.fdopen(descriptor, "rb") as file:
        info.type, info.linkname, info.size = b"0", "", os.fstat(descriptor).st_size
        if info.size > limit:
            raise too_much(path, limit)
        archive.addfile(info, file)


def too_much(path, limit):
    return OSError(errno.EFBIG, f"Larger than {limit >> 20} MiB, too much for a snapshot", path)
