"""Search a whole file system for known files and lines: a program that is sent into a sandbox.

The source travels as text (`python3 -I -c`), so the program uses the standard library only. Standard input
has one JSON object:

    {"files": {SHA-256: bytes}, "objects": [git blob], "lines": [text], "skip": [folder], "limit_s": float}

JSON lines go to the file descriptor in DAYTHREE_REPORT_FD: a line per finding, and last a summary. The search
covers every regular file, the members of archives, and every blob of every git object store.
"""

# Over a whole file system, plain strings are several times as fast as paths.
# ruff: noqa: PTH113, PTH114, PTH116, PTH118, PTH119, PTH123
import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
import zipfile

TEXT_LIMIT = 16 << 20
"""Files with more bytes are compared as a whole, not line by line."""
MEMBER_LIMIT = 64 << 20
DEPTH = 3
ZIPS = (".zip", ".whl", ".egg", ".jar", ".pyz")
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
PACKED = {".gz": gzip.decompress, ".bz2": bz2.decompress, ".xz": lzma.decompress}
DAMAGED = (OSError, EOFError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile,
           tarfile.TarError, lzma.LZMAError)  # fmt: skip


class OutOfTime(Exception):
    pass


class Scan:
    def __init__(self, request, channel):
        self.files, self.objects = request["files"], set(request["objects"])
        self.sizes = set(self.files.values())
        self.lines = {line.encode("utf-8", "surrogateescape"): n for n, line in enumerate(request["lines"])}
        self.wanted = frozenset(self.lines)
        self.skip = set(request["skip"])
        self.deadline = time.monotonic() + request["limit_s"]
        self.channel = channel
        self.looked, self.unread = 0, 0

    def send(self, **fields):
        line = json.dumps(fields).encode() + b"\n"
        while line:
            line = line[os.write(self.channel, line) :]

    def walk(self, root):
        for folder, folders, names in os.walk(root):
            folders[:] = [name for name in folders if os.path.join(folder, name) not in self.skip]
            if folder.endswith("/objects") and any(name == "pack" or len(name) == 2 for name in folders):
                self.git_store(folder)
            for name in names:
                path = os.path.join(folder, name)
                if os.path.isfile(path) and not os.path.islink(path):
                    self.file(path)

    def file(self, path):
        try:
            size = os.stat(path).st_size
            packed = path.endswith((*ZIPS, *TARS, *PACKED))
            with open(path, "rb") as file:
                head = file.read(8192)
                if b"\0" in head and not packed and size not in self.sizes:
                    self.looked += 1
                    return
                if size > MEMBER_LIMIT and not packed:
                    self.unread += 1
                    return
                data = head + file.read()
        except OSError:
            self.unread += 1
            return
        self.content(path, data, DEPTH)

    def content(self, place, data, depth):
        """Compare a file's bytes; open an archive, `depth` levels deep."""
        if time.monotonic() > self.deadline:
            raise OutOfTime
        self.looked += 1
        if len(data) in self.sizes:
            digest = hashlib.sha256(data).hexdigest()
            if digest in self.files:
                self.send(place=place, file=digest)
        if len(data) <= TEXT_LIMIT and b"\0" not in data[:8192]:
            found = self.wanted.intersection(map(bytes.strip, data.split(b"\n")))
            if found:
                self.send(place=place, lines=sorted(self.lines[line] for line in found))
        if depth:
            try:
                for name, inside in members(place, data):
                    self.content(place + "!" + name, inside, depth - 1)
            except DAMAGED:
                self.unread += 1

    def git_store(self, folder):
        """Search every blob of an object store and its alternates, also blobs without a commit."""
        with tempfile.TemporaryDirectory() as scratch:
            environment = {**os.environ, "GIT_ALTERNATE_OBJECT_DIRECTORIES": folder, "HOME": scratch}
            environment |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
            git = ["git", "--git-dir", scratch]
            try:
                subprocess.run([*git, "init", "-q", "--bare"], env=environment, check=True)
                process = subprocess.Popen(
                    [*git, "cat-file", "--batch", "--batch-all-objects", "--buffer"],
                    env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                )  # fmt: skip
            except (OSError, subprocess.SubprocessError):
                self.unread += 1
                return
            try:
                self.blobs(folder, process.stdout)
            finally:
                process.kill()
                process.communicate()

    def blobs(self, folder, stream):
        """Search the output of `git cat-file --batch`: a line of name, kind and size; data; a line feed."""
        for header in iter(stream.readline, b""):
            name, kind, size = header.decode().split()
            data = stream.read(int(size) + 1)[:-1]
            if kind == "blob":
                place = folder + "!" + name
                if name in self.objects:
                    self.send(place=place, object=name)
                self.content(place, data, 0)


def members(name, data):
    """Yield name and content of the files in an archive; nothing for other files."""
    if name.endswith(ZIPS):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for info in archive.infolist():
                if not info.is_dir() and info.file_size <= MEMBER_LIMIT:
                    yield info.filename, archive.read(info)
    elif name.endswith(TARS):
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for info in archive:
                if info.isreg() and info.size <= MEMBER_LIMIT:
                    content = archive.extractfile(info)
                    if content is not None:
                        yield info.name, content.read()
    else:
        for suffix, decompress in PACKED.items():
            if name.endswith(suffix):
                yield os.path.basename(name)[: -len(suffix)], decompress(data)


def main():
    request = json.loads(sys.stdin.buffer.read())
    scan = Scan(request, int(os.environ["DAYTHREE_REPORT_FD"]))
    started, complete = time.monotonic(), True
    try:
        scan.walk("/")
    except OutOfTime:
        complete = False
    scan.send(
        complete=complete, looked=scan.looked, unread=scan.unread, seconds=time.monotonic() - started,
        library=os.path.realpath(sysconfig.get_paths()["stdlib"]),
    )  # fmt: skip


if __name__ == "__main__":
    main()
