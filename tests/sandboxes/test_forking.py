"""Sandboxes can be snapshotted and forked, with disks that are swapped and without."""

from collections.abc import Iterator

import pytest

from sandboxes import Backend, Sandbox, fork
from sandboxes.bubblewrap.backend import BubblewrapBackend
from sandboxes.conformance.commands import SOON_S, small_spec
from sandboxes.conformance.forking import (
    FORKING,
    OVERLAID,
    ForkCheck,
    a_fork_has_what_was_there,
    what_runs_goes_on_and_does_not_reach_a_fork,
)
from sandboxes.docker.backend import DockerBackend
from sandboxes.fake import FakeBackend
from sandboxes.remote.sandbox import RemoteSandbox

ALL = (*FORKING, *OVERLAID)
FEW = (a_fork_has_what_was_there, what_runs_goes_on_and_does_not_reach_a_fork)
"""By archives both backends do the same, so one of them does it all."""


def ways() -> Iterator[object]:
    for name, mark in (("docker", pytest.mark.docker), ("bubblewrap", pytest.mark.bubblewrap)):
        for swapped in (True, False):
            for check in FEW if name == "docker" and not swapped else ALL:
                label = f"{name}-{'disks' if swapped else 'archives'}-{check.__name__}"
                yield pytest.param((name, swapped), check, id=label, marks=mark)


@pytest.fixture(scope="module")
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    name, swapped = request.param
    request.getfixturevalue(f"{name}_image")
    made = DockerBackend(swap_disks=swapped) if name == "docker" else BubblewrapBackend(swap_disks=swapped)
    yield made
    made.close()


def opened(request: pytest.FixtureRequest, backend: Backend) -> Sandbox:
    return backend.open(small_spec(request.getfixturevalue(f"{backend.name}_image")), timeout_s=30)


@pytest.mark.parametrize(("backend", "check"), list(ways()), indirect=["backend"])
def test_sandbox_can_be_forked(request: pytest.FixtureRequest, backend: Backend, check: ForkCheck) -> None:
    sandbox = opened(request, backend)
    try:
        assert isinstance(sandbox, RemoteSandbox)
        if "disks" in request.node.name and sandbox.disks is None:
            pytest.skip("disks cannot be swapped here: not root, or the engine is elsewhere")
        check(backend, sandbox)
    finally:
        sandbox.close()


@pytest.mark.parametrize("check", FORKING, ids=lambda check: check.__name__)
def test_fake_can_be_forked(check: ForkCheck) -> None:
    backend = FakeBackend()
    check(backend, backend.open(small_spec("any"), timeout_s=1))


class ForgetfulBackend(FakeBackend):
    """Broken on purpose: what it opens has no content."""

    def open(self, spec, *, timeout_s, content=None):
        return super().open(spec, timeout_s=timeout_s)


@pytest.mark.parametrize("check", FORKING[:-1], ids=lambda check: check.__name__)
def test_the_checks_fail_for_forks_that_forget(check: ForkCheck) -> None:
    backend = ForgetfulBackend()
    with pytest.raises((AssertionError, FileNotFoundError)):
        check(backend, backend.open(small_spec("any"), timeout_s=1))


@pytest.mark.bubblewrap
@pytest.mark.parametrize("backend", [("bubblewrap", True)], indirect=True)
def test_many_forks_at_once_and_forks_of_long_lines(request: pytest.FixtureRequest, backend: Backend) -> None:
    sandbox = opened(request, backend)
    sandboxes = [sandbox]
    try:
        for generation in range(20):  # more than there may be layers
            sandbox.write(f"g{generation}", b"here", timeout_s=SOON_S)
            sandbox.snapshot(timeout_s=SOON_S)
        sandboxes += fork(backend, sandbox, 6, timeout_s=60)
        for number, sandbox in enumerate(sandboxes):
            sandbox.write("mine", b"%d" % number, timeout_s=SOON_S)
        names = {"mine", *(f"g{generation}" for generation in range(20))}
        for number, sandbox in enumerate(sandboxes):
            assert sandbox.read("mine", timeout_s=SOON_S) == b"%d" % number
            assert set(sandbox.listdir(".", timeout_s=SOON_S)) == names
    finally:
        for sandbox in sandboxes:
            sandbox.close()
