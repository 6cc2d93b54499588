"""Calls of a real Ray actor: results, deadlines, and one sentence for every way to fail."""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("ray")

from ray import cloudpickle

from trainer.cluster import session as cluster
from trainer.cluster.calls import RemoteActor

pytestmark = [pytest.mark.train, pytest.mark.slow]
# This module is on no path of the actors: what it defines travels whole.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class CallError(Exception):
    """The error that callers get."""


class Counting:
    def __init__(self, start: int) -> None:
        self.count = start

    def add(self, number: int, *, twice: bool = False) -> int:
        self.count += number * (2 if twice else 1)
        return self.count

    def sleep(self) -> None:
        time.sleep(60)

    def fail(self, kind: str) -> None:
        raise {"key": KeyError, "value": ValueError}[kind]("a reason\nof two lines")

    def die(self) -> None:
        os._exit(1)


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    with cluster.start(cpus=1):
        yield


@pytest.fixture
def actor(ray_cluster: None) -> Iterator[RemoteActor]:
    options = {"num_cpus": 0}
    started = RemoteActor.start(
        Counting, 1, options=options, what="the counter", error=CallError, passed=(ValueError,)
    )
    yield started
    started.kill()


def test_a_method_is_called_by_name_also_through_a_copy(actor: RemoteActor) -> None:
    assert actor.call("add", 60, 2) == 3
    assert pickle.loads(pickle.dumps(actor)).call("add", 60, 2, twice=True) == 7


def test_an_error_of_the_method_is_translated_unless_it_is_passed(actor: RemoteActor) -> None:
    with pytest.raises(CallError, match=r"^the counter could not fail: KeyError: .*a reason") as caught:
        actor.call("fail", 60, "key")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="a reason"):
        actor.call("fail", 60, "value")


def test_a_call_that_is_late_is_given_up(actor: RemoteActor) -> None:
    actor.call("add", 60, 0)
    with pytest.raises(CallError, match=r"^the counter did not sleep within 0 s$"):
        actor.call("sleep", 0.2)


def test_a_dead_actor_and_a_closed_one_are_told_apart(actor: RemoteActor) -> None:
    for method, arguments in (("die", ()), ("add", (1,))):
        with pytest.raises(CallError, match=r"^the counter died \(") as caught:
            actor.call(method, 60, *arguments)
        assert "\n" not in str(caught.value)
    actor.kill()
    actor.kill()
    with pytest.raises(CallError, match=r"^the counter was closed$"):
        actor.call("add", 60, 1)
