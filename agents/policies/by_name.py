"""Policies by their names on the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from sandboxes.names import UnknownNameError, resolve

from ..types import Policy, PolicyError
from .endpoint import EndpointPolicy
from .scripted import SUBMIT, OraclePolicy, ScriptedPolicy, ScriptedSession
from .teacher import TeacherPolicy
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


Maker = Callable[[str], Policy]
"""Makes a policy from the text after the first colon of its name."""


def build_policy(spec: str, more: Mapping[str, Maker] = MappingProxyType({})) -> Policy:
    """Make a policy from its name on the command line.

    The word before the first colon selects a form of `FORMS` or `more`. Any other name is a
    `module:attribute`: a policy, or a class or function that returns a policy when called without arguments.

        build_policy("scripted:submit")
        build_policy("my_package.policies:Careful")

    Raises PolicyError in one line, and the exceptions of the user's module during its import.
    """
    forms = {**FORMS, **more}
    kind, colon, rest = spec.partition(":")
    makers = {form.partition(":")[0]: (form, make) for form, make in forms.items()}
    if kind in makers:
        form, make = makers[kind]
        if bool(rest) != (":" in form) or (colon and not rest):
            raise PolicyError(f"cannot read the policy {spec!r}; it is written {form}")
        return make(rest)
    try:
        found = resolve(spec, forms, kind="policy")
    except UnknownNameError as error:
        raise PolicyError(str(error)) from None
    policy = found if not isinstance(found, type) and hasattr(found, "start") else found()
    missing = [name for name in ("name", "start", "close") if not hasattr(policy, name)]
    if missing:
        raise PolicyError(f"{spec} is no policy: it has no {' and no '.join(missing)}")
    return policy


def _scripted(script: str) -> Policy:
    if script == "submit":
        return ScriptedPolicy([SUBMIT], name="scripted:submit")
    return ScriptedPolicy.from_file(Path(script))


def _endpoint(address: str) -> Policy:
    url, _, model = address.partition("#")
    if url.startswith(("http://", "https://")) and model:
        return EndpointPolicy(url, model)
    raise PolicyError(
        f"cannot read the policy 'endpoint:{address}'; an endpoint is written endpoint:URL#MODEL, "
        "such as endpoint:http://localhost:8000/v1#my-model"
    )


def _vllm(model: str) -> Policy:
    raise PolicyError(f"cannot start 'vllm:{model}' from here; `daythree eval` does, with the train extra")


FORMS: Mapping[str, Maker] = {
    "oracle": lambda _: OraclePolicy(),
    "scripted:FILE.jsonl (or scripted:submit)": _scripted,
    "endpoint:URL#MODEL": _endpoint,
    "vllm:MODEL_PATH": _vllm,
    "teacher": lambda _: TeacherPolicy(),
}
"""Form on the command line to the function that makes the policy."""
