"""Single files and archives inside the sandbox."""

from __future__ import annotations

import errno
import io
import json
import os
import stat

READ_LIMIT = 256 << 20

WORKDIR = ["/"]  # set when the server starts


def resolve(path):
    """Return the absolute path; a relative path starts at the working directory."""
    if "\0" in path:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", repr(path))
    return os.path.normpath(os.path.join(WORKDIR[0], path))


def open_regular(path, flags, mode=0o666):
    """Open a regular file; never block on a pipe or a device."""
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISREG(kind):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(errno.EISDIR, "Is a directory", path)
    raise PermissionError(errno.EACCES, "Not a regular file", path)


def read_bytes(descriptor, limit):
    """Read up to `limit` bytes from the current offset. Ignores file sizes, which are wrong in /proc."""
    parts = []
    while limit > 0:
        part = os.read(descriptor, min(limit, 1 << 20))
        if not part:
            break
        parts.append(part)
        limit -= len(part)
    return b"".join(parts)


def do_read(request, _payload):
    limit = request["limit"]
    descriptor = open_regular(resolve(request["path"]), os.O_RDONLY)
    try:
        os.lseek(descriptor, request["offset"], os.SEEK_SET)
        data = read_bytes(descriptor, READ_LIMIT + 1 if limit is None else min(limit, READ_LIMIT + 1))
    finally:
        os.close(descriptor)
    if len(data) > READ_LIMIT:
        raise OSError(errno.EFBIG, "Larger than 256 MiB, read it in parts", request["path"])
    return {}, [data]


def put(path, data, executable):
    """Write a file. Execute bits are set on request, else left unchanged.

    A file that is there keeps its content where the disk has no room for the new one.
    """
    descriptor = open_regular(path, os.O_WRONLY | os.O_CREAT)
    try:
        size = os.fstat(descriptor).st_size
        if len(data) > size > 0:  # new files are laid by hundreds, and have nothing to lose
            reserve(descriptor, len(data))
        elif len(data) < size:
            os.ftruncate(descriptor, len(data))
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        if executable:
            os.fchmod(descriptor, 0o755)
    finally:
        os.close(descriptor)


def reserve(descriptor, size):
    """Make room for a file of this size. Raises OSError where the disk is full."""
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise


def do_write(request, payload):
    path = resolve(request["path"])
    if request["path"].endswith("/"):
        raise IsADirectoryError(errno.EISDIR, "Is a directory", path)
    try:
        put(path, payload, request["executable"])
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        put(path, payload, request["executable"])
    return {}, []


def do_listdir(request, _payload):
    with os.scandir(resolve(request["path"])) as entries:
        names = [shown(entry.name) + ("/" if is_folder(entry) else "") for entry in entries]
    return {}, [json.dumps(sorted(names)).encode()]


def is_folder(entry):
    try:
        return entry.is_dir()
    except OSError:  # a link that leads in circles
        return False


def shown(name):
    """Return a file name as text; bytes that are not UTF-8 become U+FFFD."""
    return os.fsencode(name).decode("utf-8", "replace")


def do_unpack(request, payload):
    import tarfile  # most sandboxes never unpack, and starting is timed

    root = os.path.realpath(resolve(request["path"]))
    os.makedirs(root, exist_ok=True)
    folders = set()
    with tarfile.open(fileobj=io.BytesIO(payload), mode="r:") as archive:
        for member in archive:
            lay(root, member, archive, folders)
    return {}, []


def lay(root, member, archive, folders):
    """Extract one archive member under `root`, never through a link that leads out of it."""
    path = os.path.normpath(os.path.join(root, member.name))
    if path != root and not path.startswith(root.rstrip("/") + "/"):
        raise ValueError(f"archive member {member.name!r} lies outside of its folder")
    folder = path if member.isdir() else os.path.dirname(path)
    if folder not in folders:
        real = os.path.realpath(folder)
        if real != root and not real.startswith(root.rstrip("/") + "/"):
            raise PermissionError(errno.EACCES, "A link leads out of the folder", folder)
        os.makedirs(folder, exist_ok=True)
        folders.add(folder)
    if member.isdir():
        return
    if os.path.islink(path):
        os.unlink(path)
    if member.issym():
        os.symlink(member.linkname, path)
    elif member.isreg():
        put(path, archive.extractfile(member).read(), False)
        os.chmod(path, member.mode & 0o777 if member.mtime else 0o755 if member.mode & 0o100 else 0o644)
    else:
        raise ValueError(f"archive member {member.name!r} is neither file, folder nor symbolic link")
    if member.mtime:  # packed from live files: build tools compare their times
        os.utime(path, (member.mtime, member.mtime), follow_symlinks=False)
