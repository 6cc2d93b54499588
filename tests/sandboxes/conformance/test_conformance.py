"""Every backend keeps the contract, and the contract notices who does not."""

from collections.abc import Iterator

import pytest

from sandboxes import Backend, Sandbox, SandboxSpec
from sandboxes.conformance.attacks import ATTACKS
from sandboxes.conformance.commands import COMMANDS, FILES, Check, small_spec
from sandboxes.conformance.isolation import ENDING, ISOLATION
from sandboxes.conformance.limits import LIMITS
from sandboxes.fake import FakeBackend, FakeSandbox

REAL = [
    pytest.param("docker", marks=pytest.mark.docker),
    pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
]


def backend_and_image(request: pytest.FixtureRequest, name: str) -> tuple[Backend, str]:
    return request.getfixturevalue(f"{name}_backend"), request.getfixturevalue(f"{name}_image")


@pytest.fixture(scope="module", params=REAL)
def shared(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    backend, image = backend_and_image(request, request.param)
    sandbox = backend.open(small_spec(image), timeout_s=30)
    yield sandbox
    sandbox.close()


@pytest.fixture(params=REAL)
def fresh(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    backend, image = backend_and_image(request, request.param)
    sandbox = backend.open(small_spec(image), timeout_s=30)
    yield sandbox
    sandbox.close()


def named(check: Check) -> str:
    return check.__name__


@pytest.mark.parametrize("check", [*FILES, *COMMANDS], ids=named)
def test_sandbox_keeps_the_contract(shared: Sandbox, check: Check) -> None:
    check(shared)


@pytest.mark.parametrize("check", [*ISOLATION, *ATTACKS, *LIMITS, *ENDING], ids=named)
def test_sandbox_isolates_and_ends(fresh: Sandbox, check: Check) -> None:
    check(fresh)


@pytest.mark.parametrize("check", [*FILES, *ENDING], ids=named)
def test_fake_keeps_the_contract_on_files(check: Check) -> None:
    check(FakeBackend().open(small_spec("any"), timeout_s=1))


class ForgetfulSandbox(FakeSandbox):
    """Broken on purpose: it loses the last byte of what is written."""

    def write(self, path: str, data: bytes, *, timeout_s: float, executable: bool = False) -> None:
        super().write(path, data[:-1], timeout_s=timeout_s, executable=executable)


class LeakySandbox(FakeSandbox):
    """Broken on purpose: it shows what belongs to git, and never ends."""

    def changes(self, path, known, *, timeout_s, file_limit=1_048_576):
        for name in list(self.files):
            if "/.git/" in name:
                self.files[name.replace("/.git/", "/")] = self.files[name]
        return super().changes(path, known, timeout_s=timeout_s, file_limit=file_limit)

    def close(self) -> None:
        pass


@pytest.mark.parametrize("broken", [ForgetfulSandbox, LeakySandbox])
def test_the_suite_fails_for_a_broken_sandbox(broken: type[FakeSandbox]) -> None:
    failed = []
    for check in (*FILES, *ENDING):
        try:
            check(broken(SandboxSpec("any")))
        except AssertionError:
            failed.append(check.__name__)
    expected = {
        ForgetfulSandbox: "bytes_come_back_as_they_were_written",
        LeakySandbox: "a_closed_sandbox_is_lost",
    }
    assert expected[broken] in failed


@pytest.mark.parametrize("check", [*COMMANDS, *ISOLATION, *ATTACKS, *LIMITS], ids=named)
def test_the_suite_fails_for_a_sandbox_that_runs_nothing(check: Check) -> None:
    with pytest.raises((AssertionError, FileNotFoundError, StopIteration, ValueError)):
        check(FakeSandbox(small_spec("any")))
