"""The environments of a run, by name."""

from __future__ import annotations

from typing import Any

import pytest

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


def test_an_environment_that_is_not_there_is_named_before_anything_starts() -> None:
    with (
        pytest.raises(UnknownNameError, match=r"no environment 'codin'.*did you mean 'coding'"),
        open_envs([], env="codin", backend="none"),
    ):
        pass
