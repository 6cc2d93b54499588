"""The model's body, compiled, with a cache that outlives the run."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import torch

from sandboxes.images.build import cache_folder

from ..config import Config

AUTO_TOKENS = 1_000_000
"""Tokens of a run from which on `auto` compiles: with a model of a million parameters on two cores, they save
as much time as a first compilation takes; with a larger model, more."""
EPISODE_TOKENS = 500
"""Tokens of an episode, where a run says only how many episodes it learns from."""

CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"

log = logging.getLogger(__name__)


def compiles(config: Config, device: torch.device) -> bool:
    """Whether `learner.compile` asks for a compiled body; `auto` asks on a CPU with enough tokens ahead."""
    wanted, sft, rl = config.learner.compile, config.sft, config.rl
    if wanted != "auto":
        return wanted
    episodes = sft.episodes * sft.epochs + rl.steps * rl.tasks_per_step * rl.samples_per_task
    return device.type == "cpu" and sft.lessons + episodes * EPISODE_TOKENS >= AUTO_TOKENS


def compiled(model: Any) -> Any:
    """Return the compiled body of a model, for `score(body=)`; where compiling fails, the body as it is.

    Compilation happens at the first call. Shapes are dynamic: rows of every length share one program.
    """
    _keep_programs()
    body = torch.compile(model.base_model, dynamic=True, options={"cpp.threads": torch.get_num_threads()})
    working = True

    def forward(**inputs: Any) -> Any:
        nonlocal working
        if working:
            try:
                return body(**inputs)
            except Exception as error:  # whatever a compiler that is missing or refuses may raise
                log.warning("the model is not compiled (%s): training is slower", _first_line(error))
                working = False
        return model.base_model(**inputs)

    return forward


def _keep_programs() -> None:
    """Let compiled programs be kept in our cache, unless the user names another folder for them."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    # torch writes its own default, in the temporary folder, into the variable when a model is loaded.
    if os.environ.get(CACHE_VARIABLE) in {None, str(Path(default_cache_dir()).absolute())}:
        os.environ[CACHE_VARIABLE] = str(cache_folder() / "inductor")


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
