"""The policies, and how they are named on the command line."""

from __future__ import annotations

from pathlib import Path

from ..types import Policy, PolicyError
from .endpoint import EndpointPolicy
from .scripted import SUBMIT, OraclePolicy, ScriptedPolicy, ScriptedSession
from .token import TokenPolicy, TokenSession

__all__ = [
    "EndpointPolicy",
    "OraclePolicy",
    "ScriptedPolicy",
    "ScriptedSession",
    "TokenPolicy",
    "TokenSession",
    "build_policy",
]


def build_policy(spec: str) -> Policy:
    """Make a policy from its name on the command line.

    `scripted:submit`, `scripted:FILE.jsonl`, `oracle` or `endpoint:URL#MODEL`. Raises PolicyError
    in one line.
    """
    kind, _, rest = spec.partition(":")
    if spec == "oracle":
        return OraclePolicy()
    if kind == "scripted" and rest:
        return (
            ScriptedPolicy([SUBMIT], name=spec) if rest == "submit" else ScriptedPolicy.from_file(Path(rest))
        )
    if kind == "endpoint":
        url, _, model = rest.partition("#")
        if url.startswith(("http://", "https://")) and model:
            return EndpointPolicy(url, model)
        raise PolicyError(
            f"cannot read the policy {spec!r}; an endpoint is written endpoint:URL#MODEL, "
            "such as endpoint:http://localhost:8000/v1#my-model"
        )
    raise PolicyError(
        f"unknown policy {spec!r}; known are scripted:submit, scripted:FILE.jsonl, oracle, "
        "endpoint:URL#MODEL and, with the train extra, vllm:MODEL_PATH"
    )
