"""The model's body, compiled, with a cache that outlives the run."""

from __future__ import annotations

import logging
import os
from typing import Any

import torch

from sandboxes.images.build import cache_folder

log = logging.getLogger(__name__)


def compiled(model: Any) -> Any:
    """Return the compiled body of a model, for `score(body=)`; where compiling fails, the body as it is.

    Compilation happens at the first call. Shapes are dynamic: rows of every length share one program.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "inductor"))
    body = torch.compile(model.base_model, dynamic=True)
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


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
