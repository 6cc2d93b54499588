"""The folder of a training run: its settings, and its newest model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from agents.runs.folder import RunError, RunFolder, describe

from .algorithms.rewards import banner
from .config import Config, ConfigError, Policy, load, to_toml


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
        """Open a run folder to continue under its stored settings. Raises `RunError`."""
        try:
            config = load(path / "config.toml")
        except ConfigError as error:
            raise RunError(f"{path} is not a run that can be resumed: {error}") from None
        run = cls.resume(path, describe(config.tasks.sets))
        run.config = config
        return run


def acting_policy(model: str, **changes: Any) -> Policy:
    """Return policy settings for `model`: a run folder, a folder in a run, a model folder, or a hub name.

    A folder of a run uses the run's settings; a run folder stands for its newest checkpoint. `changes` that
    are not None override the settings. Raises `ConfigError`.
    """
    path = Path(model)
    run = next((folder for folder in (path, *path.parents) if (folder / "config.toml").is_file()), None)
    settings = load(run / "config.toml").policy if run and path.exists() else Policy()
    if run == path:
        model = str(newest_model(path))
    wanted = {name: value for name, value in changes.items() if value is not None}
    try:
        return Policy.model_validate({**settings.model_dump(), **wanted, "model": model})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise ConfigError(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None


def newest_model(run: Path) -> Path:
    """Return the model folder of a run's newest checkpoint. Raises `ConfigError` where there is none."""
    found = sorted(run.glob("checkpoints/step-*/model/config.json"))
    if not found:
        raise ConfigError(
            f"the run {run} has no checkpoint to act with; train it further, or name a model folder"
        )
    return found[-1].parent
