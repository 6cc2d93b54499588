"""The configuration of a container, in the terms of the Engine API, and the test for leftover containers."""

from __future__ import annotations

from typing import Any

from ..backend import Owner, this_host
from ..base import SandboxSpec
from ..bootstrap import SERVER_COMMAND
from ..disks.namespaces import Disk
from ..remote.sandbox import SERVER_PIDS, SHM_MB, base_environment, memory_bytes, user_and_group

SERVER_CAPABILITIES = ("SETUID", "SETGID", "SETPCAP", "KILL")
"""Initial capabilities of the program inside. It keeps SETUID and KILL; commands get none
(`inside.identity`)."""
IDLE_S = 300.0
"""How long a container of another host's owner may exist without running."""
LABEL = "daythree"
OWNER_LABEL = "daythree.owner"


def is_left_over(container: dict[str, Any], now: float) -> bool:
    """Whether a container, as listed by the engine, is a leftover.

    Containers of dead owners are. So are containers of other hosts (or of this machine's last boot) that do
    not run: a live owner's container starts at once, and is removed when it ends.
    """
    try:
        owner = Owner.parse(container["Labels"][OWNER_LABEL])
    except ValueError:
        return False  # not a label of ours
    idle = container["State"] in ("created", "exited", "dead") and now - container["Created"] > IDLE_S
    return owner.gone() or (idle and owner.host != this_host())


def writable_disks(spec: SandboxSpec) -> tuple[Disk, ...]:
    """Return the writable mounts of a container."""
    uid, gid = user_and_group(spec)
    return (
        Disk(spec.workdir, spec.disk_mb, 0o755, uid, gid),
        Disk("/tmp", spec.disk_mb, 0o1777, uid, gid),
        Disk("/dev/shm", SHM_MB, 0o1777, 0, 0, programs=False),
    )


def container_config(
    spec: SandboxSpec, owner: Owner, *, runtime: str | None = None, network: str = "bridge"
) -> dict[str, Any]:
    """Return the request to create a container. `network` is the network of specs that ask for one."""
    uid, gid = user_and_group(spec)
    scratch = f"rw,exec,nosuid,nodev,size={spec.disk_mb}m,uid={uid},gid={gid},mode=0755"
    memory = memory_bytes(spec)
    host = {
        "NetworkMode": network if spec.network else "none",
        "CapDrop": ["ALL"],
        "CapAdd": list(SERVER_CAPABILITIES),
        "SecurityOpt": ["no-new-privileges"],
        "PidsLimit": spec.pids + SERVER_PIDS,
        "Memory": memory,
        "MemorySwap": memory,
        "NanoCpus": int(spec.cpus * 1e9),
        "ReadonlyRootfs": True,
        "Tmpfs": {spec.workdir: scratch, "/tmp": scratch},
        "ShmSize": SHM_MB << 20,
        "AutoRemove": True,
        "LogConfig": {"Type": "none"},  # replies must not pile up on the engine's disk
        "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],
    }
    if runtime is not None:
        host["Runtime"] = runtime
    return {
        "Image": spec.image,
        "Cmd": list(SERVER_COMMAND),
        "Entrypoint": [],
        "Hostname": "sandbox",
        "User": "0:0",  # until the program inside has parted from its commands
        "WorkingDir": "/",
        "Env": [f"{key}={value}" for key, value in base_environment(spec).items()],
        "Labels": {LABEL: "1", OWNER_LABEL: str(owner)},
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "OpenStdin": True,
        "StdinOnce": True,
        "HostConfig": host,
    }
