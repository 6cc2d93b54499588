"""Edit settings as plain values before validation: overrides, absolute paths, names of older versions."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from .config_complaints import ConfigError
from .shipped import SHIPPED

LOSS_SETTINGS = ("clip_low", "clip_high", "truncate_ratio")
"""Keys of `[rl]` in older files that are now in `[rl.loss_settings]`."""

DRILLS = ("copy_drills", "repair_drills")
"""Keys of `[sft]` in older files, for exercises that `sft.lessons` replaced; the values are ignored.
"""


def override(data: dict[str, Any], assignment: str) -> None:
    """Set one value in place from `section.key=value`; the value is TOML, or a bare word.

    Raises `ConfigError` when the assignment cannot be read.
    """
    key, equals, text = assignment.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names):
        raise ConfigError(f"--set {assignment}: write it as section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        if not text.strip() or text.strip()[0] in "\"'[{":
            raise ConfigError(f"--set {assignment}: the value is not valid TOML") from None
        value = text.strip()
    table = data
    for name in names[:-1]:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {assignment}: {name} is a value, not a section")
    table[names[-1]] = value


def rename_old(data: dict[str, Any]) -> None:
    """Move values from names of older versions to today's names, in place; the value of an old name wins."""
    if "warm_start" in data:
        _merge(data, "sft", data.pop("warm_start"))
    if isinstance(data.get("sft"), dict):
        for name in DRILLS:
            data["sft"].pop(name, None)
    rl = data.get("rl")
    if isinstance(rl, dict):
        _merge(rl, "loss_settings", {name: rl.pop(name) for name in LOSS_SETTINGS if name in rl})


def _merge(table: dict[str, Any], name: str, values: Any) -> None:
    there = table.get(name, {})
    if isinstance(there, dict) and isinstance(values, dict):
        values = {**there, **values}
    if values or name in table:
        table[name] = values


def make_absolute(data: dict[str, Any]) -> None:
    """Make existing paths absolute, in place; hub names, our own names and missing paths stay as written."""

    def absolute(value: Any) -> Any:
        try:
            exists = isinstance(value, str) and value != "" and Path(value).exists()
        except OSError:  # no possible path: too long, for instance
            exists = False
        return str(Path(value).resolve()) if exists else value

    tasks, policy, sft = (data.get(name) for name in ("tasks", "policy", "sft"))
    if isinstance(tasks, dict) and isinstance(tasks.get("sets"), list):
        tasks["sets"] = [absolute(item) for item in tasks["sets"]]
    if isinstance(policy, dict) and policy.get("model", "tiny") not in ("tiny", *SHIPPED):
        policy["model"] = absolute(policy["model"])
    if isinstance(sft, dict) and "trajectories" in sft:
        sft["trajectories"] = absolute(sft["trajectories"])
