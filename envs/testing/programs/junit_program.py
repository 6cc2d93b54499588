"""Runs any test program inside a sandbox and sends out its JUnit reports.

Its source is sent into the sandbox as text (`python3 -c`); it needs Python 3.7 or newer. It reads one JSON
object from standard input:

    {"nonce": str, "command": str, "targets": [str], "reports": str, "cpu_s": int}

makes an empty folder with an unpredictable name, and runs the command in `sh`: once, with `{reports}` (that
folder) and `{targets}` filled in, or for each target, with `{report}` (a file in that folder) and `{target}`.
It writes JSON lines to the descriptor named by DAYTHREE_REPORT_FD: one per report file, and one with the exit
status. The command does not inherit the descriptor, and the reports are read only after it has ended.
"""

import sys

sys.path[:] = [entry for entry in sys.path if entry]  # before 3.11, `-c` looks for modules in the tree first

import base64  # noqa: E402
import glob  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import resource  # noqa: E402
import shlex  # noqa: E402
import shutil  # noqa: E402
import stat  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402

TOTAL_BYTES = 11 << 20
"""Limit for all reports together: base64-encoded they must fit the report descriptor's 16 MiB."""


def main():
    request = json.loads(sys.stdin.buffer.read())
    # So much processor time for this process, and for each that it starts; then the kernel ends them.
    resource.setrlimit(resource.RLIMIT_CPU, (request["cpu_s"], request["cpu_s"] + 1))
    inherited = int(os.environ.pop("DAYTHREE_REPORT_FD"))
    channel = os.dup(inherited)  # os.dup gives a descriptor that child processes do not inherit
    os.close(inherited)
    os.environ.pop("PYTHONSAFEPATH", None)  # set for this process only

    def send(**fields):
        line = json.dumps({"nonce": request["nonce"], **fields}).encode() + b"\n"
        while line:
            line = line[os.write(channel, line) :]

    folder = tempfile.mkdtemp(prefix="reports-")
    status = 0
    for command in commands(request["command"], request["targets"], folder):
        status = subprocess.call(["sh", "-c", command], stdin=subprocess.DEVNULL) or status
    left = TOTAL_BYTES
    for path in sorted(glob.glob(os.path.join(folder, request["reports"]), recursive=True)):  # noqa: PTH118, PTH207
        name = os.path.relpath(path, folder)
        try:
            data = content(path, left)
        except OSError as error:
            send(kind="collect", id=name, message=f"the report cannot be read: {error}")
            continue
        left -= len(data)
        send(kind="file", name=name, data=base64.b64encode(data).decode())
    send(kind="end", status=status)
    shutil.rmtree(folder, ignore_errors=True)
    return status if 0 <= status < 256 else 1


def commands(command, targets, folder):
    """Yield the commands to run, with every placeholder filled."""
    command = command.replace("{reports}", folder)
    if "{target}" not in command:
        yield command.replace("{targets}", " ".join(map(shlex.quote, targets)))
        return
    for target in targets:
        name = os.path.normpath(target)
        if name.startswith(("..", "/")):
            name = os.path.basename(name)  # noqa: PTH119
        report = os.path.join(folder, name + ".xml")  # noqa: PTH118
        os.makedirs(os.path.dirname(report), exist_ok=True)  # noqa: PTH103, PTH120
        yield command.replace("{report}", shlex.quote(report)).replace("{target}", shlex.quote(target))


def content(path, limit):
    """Read a regular file, following no link. Raises OSError, also when it is too large."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError("it is not a regular file")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(f"all reports together are larger than {TOTAL_BYTES >> 20} MiB")
    return data


if __name__ == "__main__":
    raise SystemExit(main())
