"""A local Ray, or a connection to a cluster, for the duration of a run.

Ray runs without a dashboard in its own temporary folder, which holds its logs too. A watchdog
(`trainer.cluster.reaping`) removes its processes, folders and shared memory even after a crash of the run.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import shutil
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from . import reaping

_ROOT = Path(__file__).resolve().parents[2]
_numbers = itertools.count()

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_enable_metrics_collection": "0",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
}
_OBJECT_STORE_BYTES = 256 * 2**20  # only messages travel through it; weights go their own way
_CONNECT_S = 10.0


class ClusterError(Exception):
    """Ray could not be started or reached. Takes one sentence."""


class Cluster:
    """A running Ray. Made by `start`; `close` ends every process of it."""

    def __init__(self, name: str, *, local: bool) -> None:
        self.name = name
        self.local = local
        self._elsewhere: Path | None = None
        self._watchdog = reaping.start_watchdog(name)
        atexit.register(self.close)

    def scratch(self, needed_bytes: int = 0, *, folder: str = "") -> Path:
        """Give the run's folder for files that pass between processes, in shared memory where it has room.

        `folder` puts it elsewhere. It is removed with the cluster. Raises `ClusterError` without room.
        """
        parents = [Path(folder)] if folder else reaping.folder_parents()
        for parent in parents:
            if parent.is_dir() and shutil.disk_usage(parent).free > needed_bytes:
                path = parent / reaping.folder_name(self.name)
                path.mkdir(exist_ok=True, mode=0o700)
                if folder:
                    reaping.reap_folders(parent)
                    self._elsewhere = path
                return path
        folders = ", ".join(str(parent) for parent in parents)
        raise ClusterError(
            f"no room for {needed_bytes / 2**30:.1f} GiB in {folders}; set engine.weight_folder"
        )

    def close(self) -> None:
        """End Ray and what runs in it, and remove its folders. Safe to call twice."""
        import ray

        atexit.unregister(self.close)
        ray.shutdown()
        reaping.end(self.name)
        if self._elsewhere is not None:
            shutil.rmtree(self._elsewhere, ignore_errors=True)
        self._watchdog.kill()
        self._watchdog.wait(timeout=10)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def start(*, cpus: int | None = None, address: str | None = None, sandboxes: int = 0) -> Cluster:
    """Start a local Ray, or connect to `address` or `RAY_ADDRESS`; reaps the leftovers of dead runs first.

    A local Ray is one node with `sandboxes` slots (`trainer.cluster.executor`).

    Raises `ClusterError`.
    """
    import ray

    if ray.is_initialized():
        raise ClusterError("Ray is running in this process already; close that cluster first")
    address = address or os.environ.get("RAY_ADDRESS") or None
    if address is not None:
        _require_answer(address)
    reaping.reap()
    name = reaping.owner(next(_numbers))
    cluster = Cluster(name, local=address is None)
    try:
        environment = {**_QUIET, reaping.LABEL: name, "PYTHONPATH": _python_path()}
        with _environment(environment), _signal_handlers_kept():
            if address is None:
                _start_local(name, cpus, sandboxes)
            else:
                variables = {
                    reaping.LABEL: name,
                    reaping.HOST_LABEL: reaping.this_host(),
                    "PYTHONPATH": _python_path(),
                }
                ray.init(
                    address,
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                    runtime_env={"env_vars": variables},
                )
    except Exception as error:  # Ray raises many kinds here
        cluster.close()
        where = f"cannot reach Ray at {address}" if address else "cannot start Ray"
        raise ClusterError(
            f"{where}: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from error
    except BaseException:
        cluster.close()
        raise
    return cluster


@contextmanager
def _signal_handlers_kept() -> Iterator[None]:
    """Restore the signal handlers afterwards: Ray sets its own, which end the process at once."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)} if main else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start_local(name: str, cpus: int | None, sandboxes: int) -> None:
    import ray

    # Ray puts unix sockets in here, and their paths may have 107 characters at most.
    folder = Path("/tmp") / reaping.folder_name(name)
    folder.mkdir(mode=0o700)
    ray.init(
        num_cpus=cpus or len(os.sched_getaffinity(0)),
        resources={"sandboxes": sandboxes} if sandboxes else None,
        include_dashboard=False,
        logging_level=logging.ERROR,
        log_to_driver=False,
        object_store_memory=_OBJECT_STORE_BYTES,
        _temp_dir=str(folder),
    )


def _require_answer(address: str) -> None:
    """Fail in seconds where nothing listens; Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return  # `auto` and the like
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except OSError as error:
        raise ClusterError(f"cannot reach Ray at {address}: {error.strerror or error}") from None


def _python_path() -> str:
    return os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH", ""))))


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for processes started inside the block only."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
