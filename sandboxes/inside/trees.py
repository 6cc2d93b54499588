"""Whole directory trees inside the sandbox: walking them, and how one differs from a known one."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time

from .files import open_regular, read_bytes, resolve, shown

LEFT_OUT = (".git", "__pycache__")
ENTRIES_LIMIT = 200_000  # of one tree, whatever is asked about it
CHANGED_FILES_LIMIT = 1_000
CHANGED_BYTES_LIMIT = 64 << 20
KNOWN_FILE_LIMIT = 256 << 20  # a known file is compared up to here, however little of it may travel


def walk(root, until, refused=None):
    """Every entry under `root` but folders: (relative path, DirEntry), in order, following no link."""
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
    """See `Sandbox.changes`. `payload` is the JSON of what is known."""
    known = json.loads(payload)
    changes = Changes(request["file_limit"])
    until = time.monotonic() + request["timeout_s"]
    for relative, entry in walk(resolve(request["path"]), until, changes.skipped):
        changes.look(relative, entry, known)
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
    """What differs in a directory, collected entry by entry."""

    def __init__(self, file_limit):
        self.file_limit = file_limit
        self.written = []  # [path, size]; contents in the same order
        self.contents = []
        self.executable = []
        self.skipped = {}
        self.seen = set()  # known paths that are still there in some form
        self.bytes = 0

    def skip(self, name, reason):
        if len(self.skipped) < CHANGED_FILES_LIMIT:
            self.skipped[name] = reason

    def look(self, relative, entry, known):
        name = shown(relative)
        self.seen.add(name)
        if entry.is_symlink():
            self.skip(name, "symlink")
        elif not entry.is_file(follow_symlinks=False) or os.fsencode(relative) != name.encode():
            self.skip(name, "special")
        else:
            self.compare(name, entry, known.get(name))

    def compare(self, name, entry, digest):
        limit = self.file_limit if digest is None else max(self.file_limit, KNOWN_FILE_LIMIT)
        if entry.stat(follow_symlinks=False).st_size > limit:
            self.skip(name, "too large")
            return
        try:
            descriptor = open_regular(entry.path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            self.skip(name, "unreadable")
            return
        try:
            data = read_bytes(descriptor, limit + 1)
        finally:
            os.close(descriptor)
        if hashlib.sha256(data).hexdigest() == digest:
            return
        if len(data) > self.file_limit:
            self.skip(name, "too large")
            return
        self.bytes += len(data)
        if len(self.written) >= CHANGED_FILES_LIMIT or self.bytes > CHANGED_BYTES_LIMIT:
            self.skip(name, "too many")
        else:
            self.written.append([name, len(data)])
            self.contents.append(data)
            if entry.stat(follow_symlinks=False).st_mode & stat.S_IXUSR:
                self.executable.append(name)
