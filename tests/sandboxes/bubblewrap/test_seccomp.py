"""The filter's bytes mean what its tables say, and the kernel takes them."""

import errno
import json
import struct

import pytest

from sandboxes import Backend, SandboxSpec
from sandboxes.bubblewrap.seccomp import ARCHITECTURES, DENIED, seccomp_filter

TRY = """
import ctypes, errno, json, os, platform, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    ctypes.set_errno(0)
    libc.syscall(number, *[ctypes.c_long(argument) for argument in arguments])
    return ctypes.get_errno()
denied, clone, clone3, socket, ioctl = json.loads(sys.argv[1])[platform.machine()]
print(json.dumps({
    "denied": {name: call(number, 0, 0, 0, 0, 0, 0) for name, number in denied.items()},
    "clone3": call(clone3, 0, 0),
    "new namespace": call(clone, 0x10000000 | 17, 0, 0, 0, 0),
    "to the host": call(socket, 40, 1, 0),
    "local": call(socket, 1, 1, 0),
    "type into the terminal": call(ioctl, 0, 0x5412, 0),
    "mode": next(row.split()[1] for row in open("/proc/self/status") if row.startswith("Seccomp:")),
}))
"""


def numbers() -> dict[str, list[object]]:
    """By machine: the denied calls, and the numbers of the four that are looked into."""
    other = {"x86_64": [56, 435, 41, 16], "aarch64": [220, 435, 198, 29]}
    return {
        machine: [{name: row[column] for name, row in DENIED.items() if row[column] is not None}, *rest]
        for column, (machine, rest) in enumerate(other.items())
    }


@pytest.mark.bubblewrap
def test_the_kernel_refuses_what_the_filter_lists(bubblewrap_backend: Backend, bubblewrap_image: str) -> None:
    sandbox = bubblewrap_backend.open(SandboxSpec(bubblewrap_image), timeout_s=60)
    done = sandbox.exec(["python3", "-c", TRY, json.dumps(numbers())], timeout_s=20)
    assert sandbox.exec(
        "python3 -c 'import threading, subprocess; subprocess.run([1 and \"true\"])'", timeout_s=20
    )
    sandbox.close()
    answers = json.loads(done.stdout)
    allowed = [name for name, number in answers.pop("denied").items() if number != errno.EPERM]
    assert allowed == []
    assert answers == {
        "clone3": errno.ENOSYS,
        "new namespace": errno.EPERM,
        "to the host": errno.EPERM,
        "local": 0,
        "type into the terminal": errno.EPERM,
        "mode": "2",
    }


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_every_jump_stays_inside_the_program(machine: str) -> None:
    program = seccomp_filter(machine)
    assert program is not None and len(program) % 8 == 0 and len(program) < 4096
    instructions = list(struct.iter_unpack("<HBBI", program))
    for place, (code, if_true, if_false, _) in enumerate(instructions):
        if code & 7 == 5:
            assert place + 1 + max(if_true, if_false) < len(instructions)
    assert instructions[-1] == (0x06, 0, 0, 0x7FFF0000), "what is not listed is allowed"


def test_an_unknown_machine_has_no_filter() -> None:
    assert seccomp_filter("riscv64") is None
