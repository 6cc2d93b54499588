"""Backends for tests that need a real one. Where an engine is missing the test is skipped; CI counts."""

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sandboxes import Backend, ImageRecipe, SandboxUnavailable
from sandboxes.bubblewrap.backend import BubblewrapBackend
from sandboxes.docker.backend import DockerBackend

BASE = ImageRecipe("base-test")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where tests run in several processes (`pytest -n 2`), say which of them stay together.

    Tests of one file share its fixtures. All that start Ray or vLLM run in one process: two engines beside
    each other are slower than one after the other, and fill the memory of a small machine.
    """
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "training" if file.startswith(("tests/trainer/", "tests/test_end_to_end")) else file

    return Scheduling(config, log)


@pytest.fixture
def undisturbed() -> Callable[[Callable[[], None]], None]:
    """Run a check of what dead owners left, again where another process of these tests removed it first."""

    def run(check: Callable[[], None]) -> None:
        for attempts_left in reversed(range(4)):
            try:
                check()
                return
            except (AssertionError, OSError):
                if not attempts_left:
                    raise

    return run


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, though a script's background job is started with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def connected(kind: type[DockerBackend | BubblewrapBackend]) -> Iterator[Backend]:
    """The backend itself, without a pool around it."""
    try:
        backend = kind()
        backend.reap()
    except SandboxUnavailable as error:
        pytest.skip(str(error))
    yield backend
    backend.close()


@pytest.fixture(scope="session")
def docker_backend() -> Iterator[Backend]:
    yield from connected(DockerBackend)


@pytest.fixture(scope="session")
def bubblewrap_backend() -> Iterator[Backend]:
    yield from connected(BubblewrapBackend)


@pytest.fixture(scope="session")
def docker_image(docker_backend: Backend) -> str:
    """An image with the base system only."""
    return docker_backend.ensure_image(BASE, timeout_s=900)


@pytest.fixture(scope="session")
def bubblewrap_image(bubblewrap_backend: Backend) -> str:
    """An image with the base system only."""
    return bubblewrap_backend.ensure_image(BASE, timeout_s=900)
