"""Lookup of exchangeable parts by a short built-in name or by `module:attribute`.

Tools, backends, policies, rewards, advantages, losses and environment factories are all looked up here.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any


class UnknownNameError(ValueError):
    """A name that resolves to nothing. The sentence lists the known names."""


def resolve(name: str, known: Mapping[str, Any], *, kind: str) -> Any:
    """Return the object called `name`; `kind` is the word for it in an error, such as "loss".

    `known` maps short names to objects, or to `module:attribute` where an import is slow and should wait.

        resolve("grpo", {"grpo": "trainer.algorithms.advantages:grpo"}, kind="advantage")
        resolve("my_package.losses:clipped", {}, kind="loss")

    Raises UnknownNameError for an unknown name, and whatever the import of the module raises.
    """
    found = known.get(name)
    if found is not None and not isinstance(found, str):
        return found
    place = found if found is not None else name
    module, colon, attribute = place.partition(":")
    if not colon or not module or not attribute:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UnknownNameError(
            f"there is no {kind} {name!r}: use {', '.join(known)}, or module:attribute of one of yours{hint}"
        )
    try:
        value = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module exists; one of its own imports is missing
        raise UnknownNameError(f"the {kind} {place!r} cannot be imported: no module {error.name!r}") from None
    for part in attribute.split("."):
        if not hasattr(value, part):
            raise UnknownNameError(f"the {kind} {place!r} cannot be imported: {module} has no {attribute!r}")
        value = getattr(value, part)
    return value
