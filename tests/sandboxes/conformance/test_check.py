"""`check_backend` passes a good backend, and names the check that a defect breaks."""

import pytest

from sandboxes import Backend, Content, Sandbox, SandboxSpec
from sandboxes.conformance import ConformanceError, check_backend
from sandboxes.conformance.check import GROUPS
from sandboxes.fake import FakeBackend, FakeSandbox

IN_MEMORY = ("files", "ending")
"""What the fake, which runs nothing, can be held to."""


class Truncating(FakeSandbox):
    """Broken on purpose: it loses the last byte of what is written."""

    def write(self, path: str, data: bytes, *, timeout_s: float, executable: bool = False) -> None:
        super().write(path, data[:-1], timeout_s=timeout_s, executable=executable)


class Keeping(FakeSandbox):
    """Broken on purpose: it does not return to the pool that lent it out."""

    def _give_back(self, *, sound: bool) -> None:
        pass


class Broken(FakeBackend):
    def __init__(self, kind: type[FakeSandbox]) -> None:
        super().__init__()
        self.kind = kind

    def open(self, spec: SandboxSpec, *, timeout_s: float, content: Content | None = None) -> FakeSandbox:
        return self.kind(spec)


def test_a_good_backend_passes_and_the_report_says_what_was_left_out() -> None:
    report = check_backend(FakeBackend(), image="any", groups=IN_MEMORY)
    assert set(report.passed) == {check.__name__ for group in IN_MEMORY for check in GROUPS[group]}
    assert set(report.not_applied) == set(GROUPS) - set(IN_MEMORY)


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        (Truncating, "bytes_come_back_as_they_were_written"),
        (Keeping, "a_lent_sandbox_goes_back_when_it_is_closed"),
    ],
)
def test_a_backend_with_a_defect_fails_with_the_name_of_the_check(
    kind: type[FakeSandbox], check: str
) -> None:
    with pytest.raises(ConformanceError, match=check):
        check_backend(Broken(kind), image="any", groups=IN_MEMORY)


def test_a_backend_that_runs_nothing_fails_the_commands() -> None:
    with pytest.raises(ConformanceError, match="fails the check"):
        check_backend(FakeBackend(), image="any", groups=("commands",))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.bubblewrap
def test_bubblewrap_passes_every_check(bubblewrap_backend: Backend, bubblewrap_image: str) -> None:
    report = check_backend(bubblewrap_backend, image=bubblewrap_image)
    assert len(report.passed) > 50, report
    assert not set(report.not_applied) - {"overlaid", "recycling"}, report


def test_a_sandbox_of_the_fake_is_a_sandbox() -> None:
    assert isinstance(FakeSandbox(SandboxSpec("any")), Sandbox)
