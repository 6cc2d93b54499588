"""The folder of a training run, with its settings read."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from agents.runs.folder import RunError, RunFolder, describe

from .algorithms.rewards import banner
from .config import Config, ConfigError, load, to_toml


class TrainingRun(RunFolder):
    """A run folder whose settings are a `Config`. Made by `begin` or `go_on`."""

    config: Config

    @classmethod
    def begin(cls, path: Path, config: Config) -> Self:
        """Make a new run folder. Raises `RunError`."""
        manifest = describe(config.tasks.sets) | {"reward_note": banner(config.reward)}
        run = cls.create(path, to_toml(config), manifest)
        run.config = config
        return run

    @classmethod
    def go_on(cls, path: Path) -> Self:
        """Open a run folder to continue it with the settings it was started with. Raises `RunError`."""
        try:
            config = load(path / "config.toml")
        except ConfigError as error:
            raise RunError(f"{path} is not a run that can be resumed: {error}") from None
        run = cls.resume(path, describe(config.tasks.sets))
        run.config = config
        return run
