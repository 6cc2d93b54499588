"""A recycled sandbox is blank, and as good as a new one."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandboxes import Backend, Sandbox
from sandboxes.conformance.attacks import ATTACKS
from sandboxes.conformance.commands import COMMANDS, FILES, Check, small_spec
from sandboxes.conformance.recycling import DOUBTED, EITHER, GONE, Recycling
from sandboxes.fake import FakeBackend

REAL = [
    pytest.param("docker", marks=pytest.mark.docker),
    pytest.param("bubblewrap", marks=pytest.mark.bubblewrap),
]


class Chain:
    """One sandbox, recycled from test to test; another one where it was thrown away."""

    def __init__(self, open_one: Callable[[], Sandbox]) -> None:
        self._open = open_one
        self.sandbox: Sandbox | None = None

    def take(self) -> Sandbox:
        taken, self.sandbox = self.sandbox or self._open(), None
        return taken


@pytest.fixture(scope="module", params=REAL)
def chain(request: pytest.FixtureRequest) -> Iterator[Chain]:
    backend: Backend = request.getfixturevalue(f"{request.param}_backend")
    image: str = request.getfixturevalue(f"{request.param}_image")
    made = Chain(lambda: backend.open(small_spec(image), timeout_s=30))
    yield made
    if made.sandbox is not None:
        made.sandbox.close()


def named(check: Any) -> str:
    return check.__name__


@pytest.mark.parametrize("check", GONE, ids=named)
def test_an_ordinary_episode_leaves_no_trace(chain: Chain, check: Recycling) -> None:
    chain.sandbox = check(chain.take())
    assert chain.sandbox is not None


@pytest.mark.parametrize("check", DOUBTED, ids=named)
def test_in_doubt_it_is_thrown_away(chain: Chain, check: Recycling) -> None:
    assert check(chain.take()) is None


@pytest.mark.parametrize("check", EITHER, ids=named)
def test_a_trace_is_gone_or_the_sandbox_is(chain: Chain, check: Recycling) -> None:
    chain.sandbox = check(chain.take())


@pytest.mark.parametrize("chain", REAL[:1], indirect=True)
@pytest.mark.parametrize("check", [*FILES, *COMMANDS, *ATTACKS], ids=named)
def test_a_recycled_sandbox_keeps_the_contract(chain: Chain, check: Check) -> None:
    if chain.sandbox is None:
        chain.sandbox = chain.take().recycled(timeout_s=20)
    assert chain.sandbox is not None
    check(chain.sandbox)


def holds(pid: int, secret: bytes) -> bool:
    """Whether a process has this anywhere in its memory."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:  # noqa: PTH123
        for row in maps:
            start, _, end = row.split()[0].partition("-")
            try:
                memory.seek(int(start, 16))
                if secret in memory.read(int(end, 16) - int(start, 16)):
                    return True
            except (OSError, OverflowError, ValueError):
                continue  # the kernel's own pages
    return False


def processes_of(sandbox: Sandbox) -> list[int]:
    """As seen from here: those in the PID namespace of who holds the sandbox's working directory."""
    mark = sandbox.exec("readlink /proc/self/ns/pid", timeout_s=20).stdout.strip()
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and str((folder / "ns/pid").readlink()) == mark:
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may read the memory of others")
def test_nothing_of_an_episode_is_in_the_memory_of_the_next(chain: Chain) -> None:
    sandbox = chain.take()
    secret = os.urandom(16).hex()  # this process holds it, and is not looked at
    sandbox.exec("cat; env", env={"SECRET": secret}, stdin=secret.encode(), timeout_s=20)
    sandbox.write(secret, secret.encode() * 9, timeout_s=20)
    sandbox.search(secret, timeout_s=20)
    before = processes_of(sandbox)
    assert any(holds(pid, secret.encode()) for pid in before), "it is there as long as the episode"
    chain.sandbox = sandbox.recycled(timeout_s=20)
    assert chain.sandbox is not None
    after = processes_of(chain.sandbox)
    assert len(after) >= 3 and not any(holds(pid, secret.encode()) for pid in after)


def test_a_fake_is_recycled_as_it_was_made() -> None:
    backend = FakeBackend({"kept": b"x"})
    first = backend.open(small_spec("any"), timeout_s=1)
    first.write("left", b"x", timeout_s=1)
    second = first.recycled(timeout_s=1)
    assert second is not None and second.listdir(".", timeout_s=1) == ["kept"]
    assert first.closed and not second.closed and first.recycled(timeout_s=1) is None
    backend.close()
    assert second.closed
