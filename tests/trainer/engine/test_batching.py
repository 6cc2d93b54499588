"""Many requests over few calls of an actor: the engine's own, with a model's work replaced by sleep."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from agents.engine import Sampling
from agents.types import Completion, PolicyError, VersionSpan
from trainer.cluster.calls import RemoteActor
from trainer.config import Engine
from trainer.engine.actor import EngineActor, EngineSpec
from trainer.engine.batching import CompletionRequest
from trainer.engine.client import EngineClient

pytestmark = [pytest.mark.train, pytest.mark.slow]
pytest.importorskip("ray")

SHORT = Sampling(1.0, 4)
BROKEN, DEFECT = 666, 667


class Sleeper(EngineActor):
    """An engine whose completion is its prompt, after as many milliseconds as its first id says."""

    def __init__(self) -> None:
        super().__init__(EngineSpec("none", Engine(), 64))
        self.batches: list[int] = []
        self.collected = 0

    async def start(self) -> int:
        return os.getpid()

    async def calls(self) -> tuple[list[int], int]:
        """Return the size of each batch, and the number of calls that fetched completions, and begin anew."""
        seen, self.batches = (self.batches, self.collected), []
        self.collected = 0
        return seen

    async def submit(self, caller: str, requests: Sequence[CompletionRequest]) -> None:
        self.batches.append(len(requests))
        await super().submit(caller, requests)

    async def collect(self, caller: str, seconds: float) -> Any:
        self.collected += 1
        return await super().collect(caller, seconds)

    async def _generate(self, request: CompletionRequest) -> Completion:
        if request.ids[0] == BROKEN:
            raise PolicyError("the engine refused 1 ids")
        if request.ids[0] == DEFECT:
            raise ZeroDivisionError("division by zero")
        await asyncio.sleep(min(request.ids[0] / 1000, request.seconds))
        size = len(request.ids)
        return Completion(request.ids, (0.0,) * size, (VersionSpan(0, 0, size),))

    async def block(self, seconds: float) -> None:
        time.sleep(seconds)  # nothing else runs in the actor meanwhile


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    from trainer.cluster import session as cluster

    with cluster.start():
        yield


@pytest.fixture
def client(ray: None) -> Iterator[EngineClient]:
    options = {"num_cpus": 0}
    remote = RemoteActor.start(Sleeper, options=options, what="the engine", error=PolicyError)
    client = EngineClient(remote, remote.call("start", 60))
    yield client
    client.close()


def ask(client: EngineClient, *ids: int, seconds: float = 30.0) -> tuple[int, ...]:
    return client.generate(ids, SHORT, seed=0, deadline=time.monotonic() + seconds).token_ids


def test_requests_that_come_together_travel_together(client: EngineClient) -> None:
    with ThreadPoolExecutor(32) as threads:
        for _ in range(3):
            expected = [(50, number) for number in range(32)]
            assert list(threads.map(lambda ids: ask(client, *ids), expected)) == expected
            batches, collected = client._remote.call("calls", 10)
            assert sum(batches) == 32 and len(batches) <= 8 and collected <= 12


def test_a_lone_request_is_sent_at_once_and_a_quick_one_waits_for_no_slow_one(client: EngineClient) -> None:
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(ask, client, 3000, 1)
        time.sleep(0.1)
        started = time.monotonic()
        assert [ask(client, 1, number) for number in range(5)] == [(1, number) for number in range(5)]
        assert time.monotonic() - started < 2.0 and not slow.done()
        assert slow.result(20) == (3000, 1)


def test_each_request_has_a_failure_and_a_deadline_of_its_own(client: EngineClient) -> None:
    def outcome(first: int) -> tuple[int, ...] | str:
        try:
            return ask(client, first, seconds=0.5 if first > 5000 else 30.0)
        except PolicyError as error:
            return str(error)

    started = time.monotonic()
    with ThreadPoolExecutor(5) as threads:
        outcomes = list(threads.map(outcome, (100, BROKEN, 9000, DEFECT, 200)))
    assert outcomes[0] == (100,) and outcomes[2] == (9000,) and outcomes[4] == (200,)
    assert outcomes[1] == "the engine refused 1 ids"
    assert outcomes[3] == "the engine could not generate: ZeroDivisionError: division by zero"
    assert time.monotonic() - started < 5.0


def test_an_engine_that_does_not_answer_fails_each_request_at_its_deadline(
    client: EngineClient,
) -> None:
    client._remote.send("block", 6.0)
    started = time.monotonic()
    with pytest.raises(PolicyError, match="the engine did not generate within 2 s"):
        client._batcher.generate((1,), SHORT, 0, 1.0, longest_s=2.0)
    assert time.monotonic() - started < 4.0
    assert ask(client, 1, 2) == (1, 2), "the late answer to the first request is not taken for this one's"


def test_a_dead_engine_fails_every_request_at_once(client: EngineClient) -> None:
    failures: list[str] = []

    def fail() -> None:
        try:
            ask(client, 20_000)
        except PolicyError as error:
            failures.append(str(error))

    threads = [threading.Thread(target=fail) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    os.kill(client.pid, signal.SIGKILL)
    for thread in threads:
        thread.join(timeout=20)
    assert len(failures) == 4 and all("died" in failure for failure in failures)
    with pytest.raises(PolicyError, match="died"):
        ask(client, 1)


def test_a_closed_client_says_so(client: EngineClient) -> None:
    assert ask(client, 1) == (1,)
    client.close()
    with suppress(PolicyError):
        client.close()
    with pytest.raises(PolicyError, match="closed"):
        ask(client, 1)
