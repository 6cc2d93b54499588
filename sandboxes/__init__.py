"""Run commands somewhere isolated. Knows nothing of tasks or models."""

import os

from .backend import Backend as Backend
from .backend import fork as fork
from .base import BackgroundProcess as BackgroundProcess
from .base import Content as Content
from .base import EngineSilent as EngineSilent
from .base import ExecResult as ExecResult
from .base import Match as Match
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
from .pool.pool import Pool as Pool
from .pool.pool import PoolStats as PoolStats
from .progress import Progress as Progress
from .progress import silent as silent

RECYCLE_VARIABLE = "DAYTHREE_RECYCLE"


def connect(
    name: str = "auto", *, timeout_s: float = 20.0, runtime: str | None = None, ready: int | None = None
) -> Pool:
    """The backend of that name in a pool; `auto` is Docker where an engine answers, else bubblewrap.

    `runtime` is for Docker: the OCI runtime of its containers (see `DockerBackend`). At most `ready` blank
    sandboxes wait to be used, by default what suits the machine; with 0 none is kept ready and none recycled.
    With `DAYTHREE_RECYCLE=0` in the environment they wait, and each is used once.

    What dead runs left in it is removed first. Raises `SandboxUnavailable`, in one line that says what to do.
    """
    backend = _find(name, timeout_s, runtime)
    try:
        backend.reap()
    except SandboxUnavailable:
        backend.close()
        raise
    return Pool(backend, ready=ready, recycle=os.environ.get(RECYCLE_VARIABLE) != "0")


def gc(*, timeout_s: float = 60.0) -> Swept:
    """Remove everything that dead runs left here: containers, processes, control groups, builds, layers.

    What belongs to a live process, or to another machine whose lease has not run out, is left alone. Never
    raises: what could not be looked at, such as an engine that does not answer, is named in the report.
    """
    return _sweep(timeout_s=timeout_s)


def _find(name: str, timeout_s: float, runtime: str | None) -> Backend:
    from .bubblewrap.backend import BubblewrapBackend
    from .docker.backend import DockerBackend

    if name == "docker":
        return DockerBackend(timeout_s=timeout_s, runtime=runtime)
    if name == "bubblewrap":
        return BubblewrapBackend(timeout_s=timeout_s)
    if name != "auto":
        raise SandboxUnavailable(f"there is no sandbox backend {name!r}; use docker, bubblewrap or auto")
    try:
        return DockerBackend(timeout_s=timeout_s, runtime=runtime)
    except SandboxUnavailable as no_docker:
        try:
            return BubblewrapBackend(timeout_s=timeout_s)
        except SandboxUnavailable as no_bubblewrap:
            raise SandboxUnavailable(f"{no_docker}; {no_bubblewrap}") from None
