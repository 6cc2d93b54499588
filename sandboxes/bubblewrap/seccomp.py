"""The seccomp filter of bubblewrap sandboxes, as BPF bytes.

A deny list in the spirit of Docker's default profile: calls that change or reveal the machine rather than the
sandbox, and calls that open new ways into the kernel and that no library's tests need. Most of them need a
capability anyway; the filter keeps them from being tried at all. A denied call fails with EPERM. `clone3`,
whose flags a filter cannot read, fails with ENOSYS, and libraries then fall back to `clone`.

Sources: `linux/filter.h`, `linux/seccomp.h`, the kernel's system call tables.
"""

from __future__ import annotations

import errno
import os
import struct

DENIED: dict[str, tuple[int | None, int | None]] = {
    # name: number on x86_64, on aarch64
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "unshare": (272, 97), "setns": (308, 268),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89), "quotactl": (179, 60),
    "quotactl_fd": (443, 443), "sethostname": (170, 161), "setdomainname": (171, 162),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266),
    "adjtimex": (159, 171), "syslog": (103, 116), "vhangup": (153, 58),
    "iopl": (172, None), "ioperm": (173, None), "uselib": (134, None), "sysfs": (139, None),
    "ustat": (136, None), "_sysctl": (156, None), "lookup_dcookie": (212, 18), "nfsservctl": (180, 42),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "fanotify_init": (300, 262), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265),
    "kcmp": (312, 272), "mbind": (237, 235), "set_mempolicy": (238, 237), "get_mempolicy": (239, 236),
    "migrate_pages": (256, 238), "move_pages": (279, 239), "set_mempolicy_home_node": (450, 450),
}  # fmt: skip
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_*
CLONE, CLONE3, SOCKET, IOCTL = (56, 220), (435, 435), (41, 198), (16, 29)
NEW_NAMESPACES = 0x7E02_0000  # CLONE_NEW*
VIRTUAL_MACHINE_SOCKET = 40  # AF_VSOCK reaches the host whatever the network namespace
TERMINAL_INPUT, TERMINAL_CONSOLE = 0x5412, 0x541C  # TIOCSTI, TIOCLINUX type into the terminal outside
OTHER_TABLE = 0x4000_0000  # x86_64 only: the calls of its 32-bit variant

LOAD, JUMP_EQUAL, JUMP_GREATER_EQUAL, JUMP_ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE, FIRST_ARGUMENT, SECOND_ARGUMENT = 0, 4, 16, 24  # offsets in struct seccomp_data
ALLOW = 0x7FFF_0000
REFUSE, MISSING = (0x0005_0000 | number for number in (errno.EPERM, errno.ENOSYS))

Instruction = tuple[int, int, int, int]
"""Code, how many to skip if true, if false, operand."""


def seccomp_filter(machine: str | None = None) -> bytes | None:
    """Return the filter for a machine (by default this one); None for an unknown call table."""
    machine = machine or os.uname().machine
    if machine not in ARCHITECTURES:
        return None
    column = list(ARCHITECTURES).index(machine)
    program: list[Instruction] = [
        (LOAD, 0, 0, ARCHITECTURE),
        (JUMP_EQUAL, 1, 0, ARCHITECTURES[machine]),
        (RETURN, 0, 0, REFUSE),
        (LOAD, 0, 0, NUMBER),
    ]
    if machine == "x86_64":
        program += [(JUMP_GREATER_EQUAL, 0, 1, OTHER_TABLE), (RETURN, 0, 0, REFUSE)]
    for numbers in DENIED.values():
        program += answered(numbers[column], REFUSE)
    program += answered(CLONE3[column], MISSING)
    program += refused_if(CLONE[column], FIRST_ARGUMENT, [(JUMP_ANY_BIT, NEW_NAMESPACES)])
    program += refused_if(SOCKET[column], FIRST_ARGUMENT, [(JUMP_EQUAL, VIRTUAL_MACHINE_SOCKET)])
    terminal = [(JUMP_EQUAL, TERMINAL_INPUT), (JUMP_EQUAL, TERMINAL_CONSOLE)]
    program += refused_if(IOCTL[column], SECOND_ARGUMENT, terminal)
    program.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)


def answered(number: int | None, answer: int) -> list[Instruction]:
    """Instructions that give one call a fixed answer. The call's number is already loaded."""
    if number is None:
        return []
    return [(JUMP_EQUAL, 0, 1, number), (RETURN, 0, 0, answer)]


def refused_if(number: int, argument: int, tests: list[tuple[int, int]]) -> list[Instruction]:
    """Instructions that refuse a call if any test of an argument's lower 32 bits holds, else allow."""
    inner: list[Instruction] = [(LOAD, 0, 0, argument)]
    for place, (code, operand) in enumerate(tests):
        inner.append((code, len(tests) - place, 0, operand))
    inner += [(RETURN, 0, 0, ALLOW), (RETURN, 0, 0, REFUSE)]
    return [(JUMP_EQUAL, 0, len(inner), number), *inner]


def filter_descriptor() -> int | None:
    """Return the read end of a pipe that holds this machine's filter, for bubblewrap to inherit, or None."""
    program = seccomp_filter()
    if program is None:
        return None
    ours, theirs = os.pipe()
    os.write(theirs, program)  # less than a pipe holds
    os.close(theirs)
    return ours
