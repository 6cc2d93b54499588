"""Completions of many threads over few calls of the engine's actor.

A call of a Ray actor costs about as much processor time as sampling several short completions. So requests
that arrive together travel in one call (`submit`), and completions that end together come back in one
(`collect`, which waits for the first). Every request keeps its own deadline, and its own failure.
"""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from agents.engine import Sampling
from agents.types import Completion, PolicyError

from ..cluster.calls import RemoteActor

QUIET_S = 0.002
"""A batch is sent when no request has arrived for this long,"""
GATHER_S = 0.02
"""and at the latest this long after its first request."""
POLL_S = 10.0
"""Longest time that the engine waits for a completion before it answers `collect` with none."""
LOOK_S = 1.0
"""Time between two looks whether anyone still waits for an engine that does not answer."""
ANSWER_S = 15.0
"""Seconds for a round trip to the engine, added to the deadline of the work itself."""


@dataclass(frozen=True)
class CompletionRequest:
    """One request to sample a completion."""

    number: int
    """Identifies the request among those of its caller."""
    ids: tuple[int, ...]
    sampling: Sampling
    seed: int
    seconds: float
    """Time until the tokens sampled so far are returned."""


Answers = Mapping[int, Completion | str]
"""Number of a request -> its completion, or the sentence of a `PolicyError`."""


class Batcher:
    """Sends requests of many threads to an engine's actor in batches. Thread-safe."""

    def __init__(self, remote: RemoteActor) -> None:
        self._remote = remote
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._caller = uuid.uuid4().hex
        self._waiting: dict[int, Future[Completion]] = {}
        self._outgoing: list[CompletionRequest] = []
        self._gathers = self._collects = False
        self._came_together = 0  # completions in the last answer to `collect`

    def generate(
        self, ids: Sequence[int], sampling: Sampling, seed: int, seconds: float, *, longest_s: float
    ) -> Completion:
        """Sample a completion within `seconds`. Raises `PolicyError`, at the latest after `longest_s`."""
        future = Future[Completion]()
        with self._lock:
            number = next(self._numbers)
            company = bool(self._waiting) or self._came_together > 1
            self._waiting[number] = future
            self._outgoing.append(CompletionRequest(number, tuple(ids), sampling, seed, seconds))
            sends, self._gathers = not self._gathers, True
            collects, self._collects = not self._collects, True
        try:
            if collects:
                threading.Thread(target=self._collect, name="completions", daemon=True).start()
            if sends:
                self._send(gather=company)
            return future.result(longest_s)
        except TimeoutError:
            raise PolicyError(f"the engine did not generate within {longest_s:.0f} s") from None
        finally:
            with self._lock:
                self._waiting.pop(number, None)

    def _send(self, *, gather: bool) -> None:
        """Send what has gathered; with `gather`, wait first until no more requests arrive."""
        try:
            last = time.monotonic() + GATHER_S
            size = 0
            while gather and size < len(self._outgoing) and time.monotonic() < last:
                size = len(self._outgoing)
                time.sleep(QUIET_S)
        finally:
            with self._lock:
                batch, self._outgoing, self._gathers = self._outgoing, [], False
                caller = self._caller
        try:
            self._remote.send("submit", caller, batch)
        except Exception as error:  # it is closed, or Ray has ended
            self._deliver({request.number: str(error) for request in batch})

    def _collect(self) -> None:
        """Fetch completions until nobody waits for one."""
        import ray

        try:
            while True:
                reference = self._remote.send("collect", self._caller, POLL_S)
                while not ray.wait([reference], timeout=LOOK_S)[0]:
                    with self._lock:
                        if not self._waiting:  # a later answer to this call must not hold new completions
                            self._caller, self._collects = uuid.uuid4().hex, False
                            return
                answers: Answers = self._remote.wait(reference, ANSWER_S, "generate")
                self._came_together = len(answers) or self._came_together
                self._deliver(answers)
                with self._lock:
                    if not self._waiting:
                        self._collects = False
                        return
        except Exception as error:  # the engine is lost, and every request with it
            with self._lock:
                lost, self._collects = list(self._waiting), False
            self._deliver(dict.fromkeys(lost, str(error)))

    def _deliver(self, answers: Answers) -> None:
        with self._lock:
            found = [(self._waiting.pop(number, None), answer) for number, answer in answers.items()]
        for future, answer in found:
            if future is not None and isinstance(answer, str):
                future.set_exception(PolicyError(answer))
            elif future is not None and not isinstance(answer, str):
                future.set_result(answer)
