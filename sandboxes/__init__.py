"""Run commands in isolation. Knows nothing of tasks or models."""

import os

from .backend import Backend as Backend
from .backend import fork as fork
from .base import BackgroundProcess as BackgroundProcess
from .base import Content as Content
from .base import EngineSilent as EngineSilent
from .base import ExecResult as ExecResult
from .base import Match as Match
from .base import OnClose as OnClose
from .base import Sandbox as Sandbox
from .base import SandboxError as SandboxError
from .base import SandboxLost as SandboxLost
from .base import SandboxSpec as SandboxSpec
from .base import SandboxUnavailable as SandboxUnavailable
from .base import SandboxUnresponsive as SandboxUnresponsive
from .base import TreeChanges as TreeChanges
from .images.recipe import ImageRecipe as ImageRecipe
from .leftovers import Swept as Swept
from .leftovers import sweep as _sweep
from .names import UnknownNameError as UnknownNameError
from .names import resolve
from .pool.pool import Pool as Pool
from .pool.pool import PoolStats as PoolStats
from .progress import Progress as Progress
from .progress import silent as silent

RECYCLE_VARIABLE = "DAYTHREE_RECYCLE"


def connect(
    name: str = "auto", *, timeout_s: float = 20.0, runtime: str | None = None, ready: int | None = None
) -> Pool:
    """Return the named backend wrapped in a pool: `auto` (Docker where an engine answers, else bubblewrap),
    `docker`, `bubblewrap`, `fake` (in memory, runs nothing), or `module:attribute` of your own callable.

    Your callable gets `timeout_s=` and returns a `Backend` or raises `SandboxUnavailable`. `runtime` is the
    OCI runtime of Docker's containers, such as `runsc`. At most `ready` blank sandboxes are started ahead, by
    default as many as suit the machine, and four times as many are kept; 0 disables the idle pool and
    recycling. With `DAYTHREE_RECYCLE=0` in the environment every sandbox is used once.

    Leftovers of dead runs are removed first. Raises `SandboxUnavailable`, and `UnknownNameError` for the
    name.
    """
    backend = _find(name, timeout_s, runtime)
    try:
        backend.reap()
    except SandboxUnavailable:
        backend.close()
        raise
    return Pool(backend, ready=ready, recycle=os.environ.get(RECYCLE_VARIABLE) != "0")


def gc(*, timeout_s: float = 60.0) -> Swept:
    """Remove all leftovers of dead runs on this machine: containers, processes, cgroups, builds, layers.

    Leftovers of a live process are kept, and so are those of another machine whose lease is still running.
    Never raises: what could not be inspected, such as an engine that does not answer, is named in the report.
    """
    return _sweep(timeout_s=timeout_s)


BACKENDS = {
    "auto": "sandboxes:docker_or_bubblewrap",
    "docker": "sandboxes.docker.backend:DockerBackend",
    "bubblewrap": "sandboxes.bubblewrap.backend:BubblewrapBackend",
    "fake": "sandboxes.fake:FakeBackend",
}


def _find(name: str, timeout_s: float, runtime: str | None) -> Backend:
    options: dict[str, dict[str, object]] = {
        "auto": {"timeout_s": timeout_s, "runtime": runtime},
        "docker": {"timeout_s": timeout_s, "runtime": runtime},
        "fake": {},
    }
    factory = resolve(name, BACKENDS, kind="sandbox backend")
    backend = factory(**options.get(name, {"timeout_s": timeout_s}))
    if not isinstance(backend, Backend):
        raise SandboxUnavailable(f"{name} returned {type(backend).__name__}, which is no sandboxes.Backend")
    return backend


def docker_or_bubblewrap(*, timeout_s: float = 20.0, runtime: str | None = None) -> Backend:
    """Return Docker where an engine answers, else bubblewrap. Raises `SandboxUnavailable` (both reasons)."""
    from .bubblewrap.backend import BubblewrapBackend
    from .docker.backend import DockerBackend

    try:
        return DockerBackend(timeout_s=timeout_s, runtime=runtime)
    except SandboxUnavailable as no_docker:
        try:
            return BubblewrapBackend(timeout_s=timeout_s)
        except SandboxUnavailable as no_bubblewrap:
            raise SandboxUnavailable(f"{no_docker}; {no_bubblewrap}") from None
