"""Sandboxes by bubblewrap: namespaces around a Debian root folder, for machines without a Docker engine.

Every sandbox has its own user, PID, network, IPC, UTS and mount namespaces, no capabilities for commands, a
read-only root, and may not create user namespaces. Its two disks are in memory and bounded. Works as root,
and as an ordinary user where the kernel permits user namespaces.

As root, commands and the program inside run as two users, and neither is the host's root (`user_maps`). An
ordinary user can map only one user, so the program inside shares it with the commands. These still cannot
trace the program, read its memory or descriptors, or kill it. They can lower its priority and resource
limits, and so make their own sandbox fail.

What bounds memory, processes and CPU time depends on the machine:

- where cgroups can be created (as root, version 1 or 2): the group as a whole, as in Docker;
- elsewhere: resource limits. Address space is bounded per process of a command, not in total; the number of
  processes per user namespace (Linux 5.14 and later); CPU time is not shared out.

A seccomp filter refuses system calls that reach beyond the sandbox (`seccomp`), on x86_64 and aarch64.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
import socket
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from ..backend import OWNER_VARIABLE, Owner, reap_processes
from ..base import SandboxSpec, SandboxUnavailable
from ..disks.disks import Disks, disks_of
from ..disks.layers import reap_layers
from ..disks.views import coverable, view_apart
from ..files import write_json
from ..images.build import ENVIRONMENT_FOLDER, cache_folder, ensure_base, ensure_environment
from ..images.recipe import ImageRecipe
from ..progress import Progress, silent
from ..remote.backend import RemoteBackend, Started
from ..remote.channel import COMPLAINT_LIMIT, Stream
from ..remote.leases import LEASE_S
from ..remote.sandbox import (
    LIVES,
    SERVER_PIDS,
    SERVER_USER,
    TEMPLATE_USER,
    base_environment,
    memory_bytes,
    server_settings,
    user_and_group,
)
from .cgroups import Cgroup, reap_groups
from .command import MOUNTED_ANEW, bubblewrap_command, group_mounts, root_mounts, writable_disks
from .seccomp import filter_descriptor
from .user_maps import PendingUserMap, first_outside

logger = logging.getLogger(__name__)

END_S = 5.0
NUMBERS = itertools.count(1)
"""Tell the control groups of this process apart, whichever backend made them."""


class BubblewrapStream(Stream):
    """A socket pair whose other end is the sandbox's standard streams."""

    def __init__(self, connection: socket.socket, errors: IO[bytes]) -> None:
        super().__init__(connection)
        self._errors = errors

    def complaint(self) -> str:
        try:
            text = os.pread(self._errors.fileno(), COMPLAINT_LIMIT, 0)
        except (OSError, ValueError):  # closed by another thread
            return ""
        lines = text.decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""

    def close(self) -> None:
        super().close()
        self._errors.close()


class BubblewrapBackend(RemoteBackend):
    """Sandboxes of this machine's kernel."""

    name = "bubblewrap"

    def __init__(
        self,
        *,
        timeout_s: float = 20.0,
        control_groups: bool = True,
        separate_users: bool = True,
        swap_disks: bool = True,
    ) -> None:
        """Try bubblewrap once. Raises `SandboxUnavailable` where it is missing or not permitted.

        Each switch turns a feature off where it would be available: without `control_groups`, resource limits
        apply; without `separate_users`, program and commands share a user; without `swap_disks`, content
        travels as archives, and sandboxes of one image share its inodes.
        """
        self._swap_disks = swap_disks
        self._separate_users = separate_users
        super().__init__(lease_s=LEASE_S)
        self._control_groups = control_groups
        # A sandbox dies with the *thread* that started it (the kernel's parent-death signal), so that
        # thread must not be one of a caller's, which may end while the sandbox is in use.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="bubblewrap")
        try_bubblewrap(timeout_s)

    def _start(self, spec: SandboxSpec, deadline: float) -> Started:  # noqa: ARG002
        root, environment = self._image(spec.image)
        users = user_map(spec) if self._separate_users else None
        group = self._group(spec)
        if group is None and users is None and os.geteuid() == 0:  # the kernel bounds no process of root
            raise SandboxUnavailable(
                "nothing here bounds the processes of a sandbox that runs as the host's root; use Docker, "
                "or a user other than 0 in the spec"
            )
        try:
            process, ours, errors = self._spawn(spec, root, environment, users, group)
        except (OSError, RuntimeError) as error:  # no process to be had, or the backend was closed
            if group is not None:
                group.remove()
            if users is not None:
                users.abandon()
            raise SandboxUnavailable(f"bubblewrap could not be started: {error}") from None
        name = f"bubblewrap sandbox {process.pid}"
        return Started(
            name=name,
            stream=BubblewrapStream(ours, errors),
            settings=self._settings(spec, users is not None, group is not None),
            end=lambda: end_process(name, process, group),
            ready=lambda deadline: self._ready(spec, process, users, deadline),
            disks=lambda _deadline: self._disks(spec, process),
        )

    def _ready(
        self,
        spec: SandboxSpec,
        process: subprocess.Popen[bytes],
        users: PendingUserMap | None,
        deadline: float,
    ) -> None:
        """Finish the sandbox before its program runs: users, and a view of the image of its own."""
        if users is not None:
            users.write(deadline)
        first = first_process(process.pid) if self._swap_disks else None
        if first is not None:
            root, environment = self._image(spec.image)
            folders = coverable(root, [spec.workdir, *(f"/{name}" for name in MOUNTED_ANEW)])
            view_apart(first, {**folders, ENVIRONMENT_FOLDER: environment}, deadline)

    def _disks(self, spec: SandboxSpec, process: subprocess.Popen[bytes]) -> Disks | None:
        if not self._swap_disks:
            return None
        first = first_process(process.pid)
        if first is None:
            return None
        return disks_of(first, writable_disks(spec), base_environment(spec)["HOME"])

    def _spawn(
        self,
        spec: SandboxSpec,
        root: Path,
        environment: Path,
        users: PendingUserMap | None,
        group: Cgroup | None,
    ) -> tuple[subprocess.Popen[bytes], socket.socket, IO[bytes]]:
        """Start a sandbox; return its process, our end of its standard streams, and its error file."""
        calls = filter_descriptor()
        passed = [*(users.theirs if users else ()), *([calls] if calls is not None else [])]
        options = [*root_mounts(root), *group_mounts(group)]
        options += ["--seccomp", str(calls)] if calls is not None else []
        command = bubblewrap_command(spec, options, environment, users)
        command = group.entering(command) if group else command
        environ = {**os.environ, OWNER_VARIABLE: str(Owner.current(LIVES * spec.lifetime_s))}
        ours, theirs = socket.socketpair()
        errors = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it lives as long as the sandbox
        try:
            process = self._starter.submit(spawn, command, theirs, errors, passed, environ).result()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            for descriptor in passed:
                os.close(descriptor)
        return process, ours, errors

    def _settings(self, spec: SandboxSpec, apart: bool, grouped: bool) -> dict[str, Any]:
        more: dict[str, Any] = {}
        if apart:
            more.update(owned=[spec.workdir], user_namespaces=False)
        if not grouped:
            # Counted by user: with one of their own, commands have this and the thread that starts them.
            processes = spec.pids + (1 if apart else SERVER_PIDS)
            more.update(processes=processes, memory=spec.memory_mb << 20)
        server_user = SERVER_USER if apart else None
        return server_settings(spec, server_user=server_user, lease_s=LEASE_S, **more)

    def _group(self, spec: SandboxSpec) -> Cgroup | None:
        if not self._control_groups:
            return None
        name = f"{Owner.current(LIVES * spec.lifetime_s)}.{next(NUMBERS)}"
        pids = spec.pids + SERVER_PIDS
        return Cgroup.create(name, memory_bytes=memory_bytes(spec), pids=pids, cpus=spec.cpus)

    def _image(self, ref: str) -> tuple[Path, Path]:
        """Return the root and environment folders of an image."""
        try:
            record = json.loads(record_path(ref).read_text("utf-8"))
        except FileNotFoundError:
            raise SandboxUnavailable(f"image {ref} is not built; build it with ensure_image") from None
        return Path(record["root"]), Path(record["environment"])

    def ensure_image(self, recipe: ImageRecipe, *, timeout_s: float, progress: Progress = silent) -> str:
        if self.has_image(recipe.ref):
            return recipe.ref
        if not recipe.bootstrapped:
            raise SandboxUnavailable(f"bubblewrap cannot use the image {recipe.base} as a base; use Docker")
        deadline = time.monotonic() + timeout_s
        root = ensure_base(recipe, deadline=deadline, progress=progress)
        environment = ensure_environment(recipe, deadline=deadline, progress=progress)
        write_json(record_path(recipe.ref), {"root": str(root), "environment": str(environment)})
        return recipe.ref

    def has_image(self, ref: str) -> bool:
        try:
            return all(folder.is_dir() for folder in self._image(ref))
        except SandboxUnavailable:
            return False

    def reap(self) -> list[str]:
        """Remove leftovers: mostly cgroups, since the kernel kills processes together with their owner."""
        return reap_processes() + reap_groups() + reap_layers(cache_folder())

    def close(self) -> None:
        super().close()
        self._starter.shutdown()


def record_path(ref: str) -> Path:
    """Return the file that records which folders make up an image."""
    return cache_folder() / "images" / (ref.replace("/", "-").replace(":", "-") + ".json")


def user_map(spec: SandboxSpec) -> PendingUserMap | None:
    """Return the map of the sandbox's users; None where all share one."""
    uid, gid = user_and_group(spec)
    if first_outside() is None or uid == 0 or gid == 0:
        return None
    return PendingUserMap([uid, SERVER_USER, TEMPLATE_USER], [gid])


def spawn(
    command: list[str], streams: socket.socket, errors: IO[bytes], passed: list[int], environ: dict[str, str]
) -> subprocess.Popen[bytes]:
    """Start bubblewrap with these descriptors. Its environment does not reach the sandbox."""
    ends = streams.fileno()
    return subprocess.Popen(
        command,
        stdin=ends,
        stdout=ends,
        stderr=errors,
        pass_fds=passed,
        env=environ,
        start_new_session=True,
    )


def end_process(name: str, process: subprocess.Popen[bytes], group: Cgroup | None) -> None:
    """Kill bubblewrap, and with it the sandbox."""
    process.kill()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        logger.warning("%s did not end; reap() will try again", name)
    if group is not None:
        group.remove()


def first_process(bubblewrap: int) -> int | None:
    """Return the sandbox's first process, as numbered here: bubblewrap's only child."""
    try:
        children = Path(f"/proc/{bubblewrap}/task/{bubblewrap}/children").read_text().split()
    except OSError:
        return None
    return int(children[0]) if children else None


def try_bubblewrap(timeout_s: float) -> None:
    """Start an empty sandbox. Raises `SandboxUnavailable` where that fails."""
    if shutil.which("bwrap") is None:
        raise SandboxUnavailable("bubblewrap is not installed; run scripts/ensure-tools.sh")
    command = ["bwrap", "--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL"]
    command += ["--ro-bind", "/", "/", "--proc", "/proc", "--", "true"]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise SandboxUnavailable(f"bubblewrap did not start within {timeout_s:.0f} s") from None
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
        raise SandboxUnavailable(
            f"bubblewrap cannot isolate here: {lines[-1]}; user namespaces must be allowed"
        )
