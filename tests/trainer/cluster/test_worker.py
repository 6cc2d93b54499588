"""The environments of a run, by name."""

from __future__ import annotations

from typing import Any

import pytest

from envs.grading.memory import VerdictMemory
from sandboxes import Backend
from sandboxes.names import UnknownNameError
from trainer.cluster.worker import open_envs


class OwnEnv:
    """An environment of somebody's own, as far as it is opened here."""

    def __init__(self, tasksets: Any, *, backend: Backend, embedder: Any) -> None:
        self.tasksets, self.backend, self.embedder = tasksets, backend, embedder


@pytest.mark.bubblewrap
def test_an_environment_is_found_by_module_and_attribute(bubblewrap_backend: Backend) -> None:
    with open_envs([], env=f"{__name__}:OwnEnv", backend="bubblewrap") as make_env:
        first, second = make_env(), make_env()
    assert isinstance(first, OwnEnv) and isinstance(second, OwnEnv)
    assert first is not second and first.backend is second.backend
    assert first.embedder is None


class WithMemory(OwnEnv):
    """An environment that grades through the memory of its process."""

    def __init__(self, tasksets: Any, *, verdict_memory: VerdictMemory | None = None, **options: Any) -> None:
        super().__init__(tasksets, **options)
        self.memory = verdict_memory


@pytest.mark.bubblewrap
def test_environments_of_a_process_share_one_memory_of_verdicts(bubblewrap_backend: Backend) -> None:
    def memories(env: type, *, wanted: bool) -> list[Any]:
        name = f"{__name__}:{env.__name__}"
        with open_envs([], env=name, backend="bubblewrap", verdict_memory=wanted) as make_env:
            return [getattr(make_env(), "memory", None) for _ in range(2)]

    one, other = memories(WithMemory, wanted=True)
    assert isinstance(one, VerdictMemory) and one is other
    assert memories(WithMemory, wanted=False) == [None, None]
    assert memories(OwnEnv, wanted=True) == [None, None], "an environment that knows no memory is made too"


def test_an_environment_that_is_not_there_is_named_before_anything_starts() -> None:
    with (
        pytest.raises(UnknownNameError, match=r"no environment 'codin'.*did you mean 'coding'"),
        open_envs([], env="codin", backend="none"),
    ):
        pass
