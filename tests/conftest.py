"""Backends for tests that need a real one. Where an engine is missing the test is skipped; CI counts."""

import signal
from collections.abc import Iterator

import pytest

from sandboxes import Backend, ImageRecipe, SandboxUnavailable
from sandboxes.bubblewrap.backend import BubblewrapBackend
from sandboxes.docker.backend import DockerBackend

BASE = ImageRecipe("base-test")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where tests run in several processes (`pytest -n 2`), say which of them stay together.

    Tests of one file share its fixtures, so they stay together. All that start Ray or vLLM run in one process:
    two engines beside each other are slower than one after the other, and fill the memory of a small machine.
    """
    for item in items:
        heavy = item.get_closest_marker("train") is not None
        item.add_marker(pytest.mark.xdist_group("train" if heavy else item.path.as_posix()))


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
