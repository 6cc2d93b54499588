"""Sandboxes in a Docker engine, by its API over its socket; the `docker` command is never run.

A container is created locked down (no network, no capabilities for commands, no new privileges, read-only
root, bounded memory, processes and disk). Its first process and init is the program of `sandboxes.inside`,
which runs under another user than the commands. All requests go over one attached stream to that program.
When the stream ends, the program ends and the engine removes the container: nothing is left of a killed
owner.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import docker
import docker.errors
import docker.utils
import requests

from ..backend import Owner
from ..base import EngineSilent, SandboxSpec, SandboxUnavailable
from ..disks.disks import Disks, disks_of
from ..disks.layers import reap_layers
from ..disks.mounts import mounter
from ..images.build import cache_folder
from ..images.recipe import ImageRecipe
from ..progress import Progress, silent
from ..remote.backend import RemoteBackend, Started
from ..remote.channel import COMPLAINT_LIMIT, Stream
from ..remote.leases import LEASE_S
from ..remote.sandbox import LIVES, SERVER_USER, RemoteSandbox, base_environment, server_settings
from .containers import OWNER_LABEL, container_config, is_left_over, writable_disks
from .images import build_image
from .interpreter import Interpreters, lacks_python

CALL_S = 60.0
"""Longest wait for one answer of the engine."""
REMOVE_S = 5.0
"""Longest wait for the removal of a container, which ends and is removed by itself as well."""
RUNTIME_VARIABLE = "DAYTHREE_OCI_RUNTIME"
NETWORK_VARIABLE = "DAYTHREE_NETWORK"
"""Names the engine's network for sandboxes that have one (`SandboxSpec.network`), by default `bridge`."""
LOCAL_ENGINE = "http+docker://"
"""docker-py's base URL of an engine behind a local socket or SSH."""

logger = logging.getLogger(__name__)


class DockerStream(Stream):
    """An attached stream: each frame has 8 header bytes (stream number, size) before its data."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        self._left = 0  # bytes of standard output in the current frame
        self._complaint = bytearray()

    def _receive_into(self, view: memoryview) -> int:
        while not self._left:
            header = self._exactly(8)
            if header is None:
                return 0
            number, size = struct.unpack(">B3xI", header)
            if number == 1:
                self._left = size
                continue
            text = self._exactly(size)
            if text is None:
                return 0
            self._complaint = (self._complaint + text)[-COMPLAINT_LIMIT:]
        received = super()._receive_into(view[: self._left])
        self._left -= received
        return received

    def _exactly(self, count: int) -> bytes | None:
        data = b""
        while len(data) < count:
            part = self._connection.recv(count - len(data))
            if not part:
                return None
            data += part
        return data

    def complaint(self) -> str:
        lines = self._complaint.decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""


class Engine(docker.APIClient):
    """The engine's API. Each call is bounded by the deadline that its thread has set by `until`."""

    _doing = threading.local()

    @property
    def timeout(self) -> float:
        """Seconds left for the next call; docker-py reads this attribute."""
        left = getattr(self._doing, "until", float("inf")) - time.monotonic()
        return max(0.05, min(self._longest_s, left))

    @timeout.setter
    def timeout(self, longest_s: float) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._longest_s = longest_s

    @contextmanager
    def until(self, deadline: float) -> Iterator[None]:
        """Bound the calls that this thread makes inside the block."""
        self._doing.until = deadline
        try:
            yield
        finally:
            del self._doing.until


class DockerBackend(RemoteBackend):
    """Sandboxes of one Docker engine."""

    name = "docker"

    def __init__(
        self,
        *,
        timeout_s: float = 20.0,
        lease_s: float = LEASE_S,
        runtime: str | None = None,
        swap_disks: bool = True,
    ) -> None:
        """Connect to the engine that `DOCKER_HOST` names, by default the local one.

        `runtime` is one of the engine's OCI runtimes, such as `runsc`; by default the environment variable
        `DAYTHREE_OCI_RUNTIME`, else the engine's own default. Without `swap_disks`, content travels as
        archives even where disks could be swapped. Raises `SandboxUnavailable` when no engine answers.
        """
        self._swap_disks = swap_disks
        super().__init__(lease_s=lease_s)
        self._runtime = runtime or os.environ.get(RUNTIME_VARIABLE) or None
        self._network = os.environ.get(NETWORK_VARIABLE) or "bridge"
        require_plain(os.environ)
        with translated("no Docker engine answers; start one (scripts/ensure-docker.sh) or use bubblewrap"):
            self._api: Any = Engine(
                **docker.utils.kwargs_from_env(), version="auto", timeout=int(timeout_s), max_pool_size=64
            )
            self._api.ping()
        self._api.timeout = CALL_S
        self._interpreters = Interpreters(self._api)

    def _open_blank(self, spec: SandboxSpec, deadline: float) -> RemoteSandbox:
        try:
            return super()._open_blank(spec, deadline)
        except SandboxUnavailable as error:
            if not lacks_python(error):
                raise
            return self._start_with_python(spec, deadline)

    def _start_with_python(self, spec: SandboxSpec, deadline: float) -> RemoteSandbox:
        """Start an image that lacks a usable Python, with an interpreter laid over the image."""
        with self._api.until(deadline), translated(f"cannot lay a Python over {spec.image}"):
            self._interpreters.bring(spec.image, deadline=deadline)
        try:
            return super()._open_blank(spec, deadline)
        except SandboxUnavailable as error:
            if not lacks_python(error):
                raise
            raise SandboxUnavailable(
                f"image {spec.image} has neither python3 nor a shell (/bin/sh); a sandbox needs one of them"
            ) from None

    def _start(self, spec: SandboxSpec, deadline: float) -> Started:
        owner = Owner.current(LIVES * spec.lifetime_s)
        with self._api.until(deadline):
            container = self._create(spec, owner)
        try:
            with self._api.until(deadline), translated(f"cannot start a container of {spec.image}"):
                stream = self._attach(container)
                self._api.start(container)
        except BaseException:
            self._remove(container)
            raise
        return Started(
            name=f"container {container[:12]}",
            stream=stream,
            settings=server_settings(spec, server_user=SERVER_USER, lease_s=self._renewals.lease_s),
            end=lambda: self._remove(container),
            disks=lambda deadline: self._disks(spec, container, deadline),
        )

    def _disks(self, spec: SandboxSpec, container: str, deadline: float) -> Disks | None:
        """Return the container's disks, where the engine is on this machine and mounting is permitted."""
        if not self._swap_disks or mounter() is None or not self._api.base_url.startswith(LOCAL_ENGINE):
            return None
        with self._api.until(deadline), translated(f"cannot look at container {container[:12]}"):
            pid = self._api.inspect_container(container)["State"]["Pid"]
        return disks_of(pid, writable_disks(spec), base_environment(spec)["HOME"], mark=container)

    def _create(self, spec: SandboxSpec, owner: Owner) -> str:
        message = f"cannot create a container of {spec.image}"
        with translated(message):
            try:
                config = container_config(spec, owner, runtime=self._runtime, network=self._network)
                config |= self._interpreters.config(spec.image)
                return self._api.create_container_from_config(config)["Id"]
            except docker.errors.ImageNotFound:
                raise SandboxUnavailable(
                    f"image {spec.image} is not in the Docker engine; build it with ensure_image"
                ) from None

    def _attach(self, container: str) -> DockerStream:
        """Attach to the container's standard streams as one socket."""
        params = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
        attached = self._api.attach_socket(container, params=params)
        # What docker-py returns may be a file object, whose socket only closes when it is collected.
        connection = getattr(attached, "_sock", attached)
        try:
            return DockerStream(socket.socket(fileno=os.dup(connection.fileno())))
        finally:
            connection.close()
            attached.close()

    def _remove(self, container: str) -> None:
        """Remove a container. Tolerates that the engine is removing it already, or does not answer."""
        try:
            deadline = time.monotonic() + REMOVE_S
            with self._api.until(deadline), translated(f"cannot remove container {container[:12]}"):
                self._api.remove_container(container, force=True, v=True)
        except SandboxUnavailable as error:
            if "404" not in str(error) and "already in progress" not in str(error):
                logger.warning("%s; reap() will find it", error)

    def ensure_image(self, recipe: ImageRecipe, *, timeout_s: float, progress: Progress = silent) -> str:
        if not self.has_image(recipe.ref):
            with translated(f"cannot build {recipe.ref}"):
                build_image(self._api, recipe, time.monotonic() + timeout_s, progress)
        return recipe.ref

    def has_image(self, ref: str) -> bool:
        with translated("the Docker engine does not answer"):
            try:
                self._api.inspect_image(ref)
            except docker.errors.ImageNotFound:
                return False
            return True

    def reap(self) -> list[str]:
        removed = reap_layers(cache_folder())
        with translated("cannot list containers"):
            found = self._api.containers(all=True, filters={"label": OWNER_LABEL})
        for container in found:
            if is_left_over(container, time.time()):
                self._remove(container["Id"])
                removed.append(f"container {container['Id'][:12]}")
        return removed

    def close(self) -> None:
        super().close()
        self._api.close()


def require_plain(environment: Mapping[str, str]) -> None:
    """Refuse an engine whose attached streams are not plain bytes on a socket."""
    url = environment.get("DOCKER_HOST") or "unix://"
    encrypted = environment.get("DOCKER_TLS_VERIFY")
    if encrypted or not url.startswith(("unix://", "tcp://", "http://")):
        how = " with DOCKER_TLS_VERIFY" if encrypted else ""
        raise SandboxUnavailable(
            f"DOCKER_HOST={url}{how} is not supported; forward its socket "
            "(ssh -L /tmp/engine.sock:/var/run/docker.sock HOST) and set DOCKER_HOST=unix:///tmp/engine.sock"
        )


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Translate docker-py's exceptions into `SandboxUnavailable` or `EngineSilent`, with one line each."""
    try:
        yield
    except docker.errors.APIError as error:
        reason = str(error.explanation or error).strip().splitlines()[-1]
        raise SandboxUnavailable(f"{what}: {error.status_code} {reason}") from None
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        raise EngineSilent(f"{what} ({type(error).__name__})") from None
