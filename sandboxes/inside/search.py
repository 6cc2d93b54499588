"""Find lines in text files inside the sandbox."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from fnmatch import fnmatch

from .commands import run_command
from .files import open_regular, read_bytes, resolve, shown
from .trees import walk

SEARCHED_FILE_LIMIT = 8 << 20
LINE_LIMIT = 1_000  # characters of a matching line that are shown


def matches_glob(relative, glob):
    """Match a pattern with a slash against the path, one without against the file's name."""
    return glob is None or fnmatch(relative if "/" in glob else relative.rpartition("/")[2], glob)


def search_files(root, until):
    """Yield (relative path, full path) of files to search; a file is its own root."""
    if not os.path.isdir(root):
        os.stat(root)
        return [(os.path.basename(root), root)]
    return ((relative, entry.path) for relative, entry in walk(root, until))


def find_lines(root, found, glob, limit, until):
    """Return [path, line, text] of lines for which `found(bytes)` is true, in order."""
    matches = []
    for relative, path in search_files(root, until):
        if not matches_glob(relative, glob):
            continue
        for number, line in matching_lines(path, found):
            matches.append([shown(relative), number, line.decode("utf-8", "replace")[:LINE_LIMIT]])
            if len(matches) >= limit:
                return matches
        if time.monotonic() > until:
            raise TimeoutError("the search took too long")
    return matches


def matching_lines(path, found):
    """Yield (number, line) of a text file; nothing for binary, too large or unreadable files."""
    try:
        descriptor = open_regular(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        data = read_bytes(descriptor, SEARCHED_FILE_LIMIT + 1)
    finally:
        os.close(descriptor)
    if len(data) > SEARCHED_FILE_LIMIT or b"\0" in data[:8192] or not found(data):
        return
    for number, line in enumerate(data.split(b"\n"), 1):
        if found(line):
            yield number, line.rstrip(b"\r")


PROGRAM = {"bootstrap": "", "text": b""}  # this program as it was sent, for a child that runs it again


def do_search(request, _payload):
    root = resolve(request["path"])
    if request["regex"]:
        os.stat(root)
        matches = search_regex(request, root)
    else:
        needle = request["pattern"].encode()
        until = time.monotonic() + request["timeout_s"]
        matches = find_lines(root, lambda line: needle in line, request["glob"], request["limit"], until)
    return {}, [json.dumps(matches).encode()]


def search_regex(request, root):
    """Search in a child process, `rg` where installed, so that the deadline holds for any pattern."""
    limit = request["limit"]
    program = b""
    if shutil.which("rg"):
        arguments = ["rg", "--no-config", "--no-ignore", "--hidden", "--no-messages", "--null", "-nH"]
        arguments += ["--no-heading", "--color=never", "--sort=path", "--max-filesize=8M"]
        arguments += [f"--max-count={limit}", "-g!.git", "-g!__pycache__"]
        arguments += ["-e", request["pattern"], "--", root]
    else:
        asked = {key: request[key] for key in ("pattern", "glob", "limit", "timeout_s")}
        arguments = [sys.executable, "-I", "-S", "-c", PROGRAM["bootstrap"], json.dumps(asked), root]
        program = PROGRAM["text"]
    done, code, _ = run_command(
        arguments, timeout_s=request["timeout_s"], cwd="/", env={"LC_ALL": "C.UTF-8"},
        stdin=program, limit=16 << 20, report=False,
    )  # fmt: skip
    matches = parse_lines(bytes(done.stdout.head), root, request["glob"], limit)
    if len(matches) < limit and code is None:
        raise TimeoutError("the search took too long")
    complaint = done.stderr.text().decode("utf-8", "replace").strip()
    if code not in (0, 1, None) and complaint:
        raise ValueError(complaint)
    return matches


def parse_lines(data, root, glob, limit):
    """Parse `path NUL number : text` lines into [path relative to root, number, text]."""
    matches = []
    for row in data.split(b"\n"):
        path, separator, rest = row.partition(b"\0")
        number, colon, text = rest.partition(b":")
        if not separator or not colon or not number.isdigit():
            continue
        full = shown(os.fsdecode(path))
        relative = os.path.basename(root) if full == root else os.path.relpath(full, root)
        if matches_glob(relative, glob):
            matches.append([relative, int(number), text.decode("utf-8", "replace").rstrip("\r")[:LINE_LIMIT]])
    return matches[:limit]


def search_child(asked, root):
    """The child process of `search_regex` where `rg` is missing: the same output by Python's `re`."""
    try:
        pattern = re.compile(asked["pattern"].encode(), re.MULTILINE)
    except re.error as error:
        sys.stderr.write(f"regex parse error: {error}\n")
        sys.exit(2)  # as `rg` does
    until = time.monotonic() + asked["timeout_s"]
    for path, number, text in find_lines(root, pattern.search, asked["glob"], asked["limit"], until):
        full = root if os.path.isfile(root) else os.path.join(root, path)
        row = f"{full}\0{number}:{text}\n".encode("utf-8", "replace")
        sys.stdout.buffer.write(row)
