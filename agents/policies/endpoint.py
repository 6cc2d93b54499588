"""A policy behind an OpenAI-compatible chat endpoint. It works on text; its trajectories hold no tokens.

A server may answer anything, or nothing. What is no chat completion, and silence until the deadline, make the
episode unscored: they say nothing about the model. An answer that has begun by the deadline is out of time.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import queue
import random
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import httpx2
from pydantic import TypeAdapter, ValidationError

from envs.tools.base import ToolSpec
from envs.types import Observation, StopReason, Task, ToolCall

from ..chat import openai_tool
from ..dialects import parse_arguments
from ..executor import episode_seed
from ..prompts import prompt
from ..types import Action, PolicyError

KEY_VARIABLES = ("DAYTHREE_API_KEY", "OPENAI_API_KEY")
ANSWER_BYTES = 64 << 20
LINGER_S = 1.0
"""Time after a request's deadline in which its own timeouts should have ended it."""
SUBSTITUTES = {"seed": "", "max_tokens": "max_completion_tokens"}
"""Fields of a request that some servers refuse, and what they take in their place."""
_REFUSES = re.compile(
    r"un(supported|recognized|known|expected)|not (supported|permitted|allowed)|extra (inputs|fields)", re.I
)
_OVERFLOW = re.compile(
    r"context[ _-]?(length|size|window|limit)|(prompt|input|request)\b.{0,40}\b(too long|exceeds)"
    r"|(prompt|input) tokens?.{0,60}exceed|reduce the length|too many (input )?tokens",
    re.I | re.S,
)
NO_CALL = "Your answer has no tool call; every answer needs one."
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Function:
    name: str
    arguments: str | dict[str, Any] | list[Any] | None = None


@dataclass(frozen=True)
class _Call:
    function: _Function
    id: str | None = None


@dataclass(frozen=True)
class _Message:
    content: str | list[Any] | None = None
    tool_calls: list[_Call] | None = None
    reasoning_content: Any = None
    reasoning: Any = None

    @property
    def text(self) -> str:
        """The content, or the joined texts of its parts."""
        parts = self.content if isinstance(self.content, list) else [{"text": self.content or ""}]
        return "".join(str(part.get("text") or "") for part in parts if isinstance(part, dict))

    @property
    def thought(self) -> dict[str, str]:
        """The model's reasoning under the server's name for it, which some servers want back."""
        named = {"reasoning_content": self.reasoning_content, "reasoning": self.reasoning}
        return {name: _storable(said) for name, said in named.items() if isinstance(said, str) and said}


@dataclass(frozen=True)
class _Choice:
    message: _Message
    finish_reason: str | None = None


@dataclass(frozen=True)
class _Reply:
    choices: list[_Choice] = field(default_factory=list)


_REPLY = TypeAdapter(_Reply)


class _Late(Exception):
    """The answer was not there in time. Takes whether a part of it was."""


@dataclass(frozen=True)
class _Answer:
    """A whole answer of the server."""

    status: int
    headers: httpx2.Headers
    data: bytes

    @property
    def text(self) -> str:
        return self.data.decode("utf-8", "replace")


class EndpointPolicy:
    """Posts to `URL/chat/completions`, with tools. The API key is read from the environment, never logged."""

    def __init__(
        self,
        url: str,
        model: str,
        *,
        temperature: float | None = None,
        max_tokens: int | None = None,
        system: str | None = None,
        request_s: float = 600.0,
        attempts: int = 6,
        first_wait_s: float = 1.0,
    ) -> None:
        """`request_s` bounds one request; failed requests are retried with exponential backoff.

        Raises PolicyError for an API key that no header can hold.
        """
        self.name = f"endpoint:{model}"
        self.model = model
        self.temperature = temperature
        self.max_tokens = max_tokens
        self.system = prompt("system") if system is None else system
        self.request_s = request_s
        self.attempts = attempts
        self.first_wait_s = first_wait_s
        self._url = url.rstrip("/") + "/chat/completions"
        self._avoided: set[str] = set()  # fields that the server has refused
        self._key = _key()
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=64)
        self._client = httpx2.Client(headers=headers, limits=limits)

    def start(
        self, task: Task, tools: Sequence[ToolSpec], first: Observation, *, seed: int
    ) -> EndpointSession:
        """Open a conversation; the first request follows with `act`."""
        del task  # the first observation holds the instruction
        return EndpointSession(self, tools, first, seed)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def ask(self, body: dict[str, Any], *, deadline: float) -> dict[str, Any] | StopReason:
        """Send a request, with retries. Raises PolicyError for a refusal or repeated failure."""
        problem = "it was never asked"
        for attempt in range(self.attempts):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            allowed = min(left, self.request_s)
            try:
                reply = self._post(self._fitted(body), allowed)
            except _Late as late:
                (begun,) = late.args
                if begun and allowed == left:
                    return StopReason.TIME  # it was answering until the episode's time was up
                problem, asked_to_wait = f"no answer within {allowed:g} s", 0.0
            except httpx2.HTTPError as error:
                problem, asked_to_wait = self._redacted(f"{type(error).__name__}: {error}"), 0.0
            else:
                if reply.status == 200:
                    return self._decoded(reply)
                problem, asked_to_wait = self._described(reply), _retry_after(reply)
                if reply.status in (400, 413, 422):
                    if _overflows(reply.text):
                        return StopReason.MAX_TOKENS
                    if self._avoids(body, reply.text):
                        continue
                if reply.status != 429 and reply.status < 500:
                    raise PolicyError(f"the endpoint {self._url} refused the request: {problem}")
            # Spread out, so that many episodes do not come back at the same moment.
            wait = max(self.first_wait_s * 2**attempt * random.uniform(0.5, 1.0), asked_to_wait)
            if attempt + 1 < self.attempts:
                time.sleep(max(0.0, min(wait, 60.0, deadline - time.monotonic())))
        raise PolicyError(f"the endpoint {self._url} keeps failing: {problem}")

    def _avoids(self, body: dict[str, Any], said: str) -> bool:
        """Whether the server refused a field that can be spared; it is left out from now on."""
        refused = {
            name
            for name in SUBSTITUTES
            if name in body and _REFUSES.search(said) and re.search(rf"\b{name}\b", said)
        }
        if refused <= self._avoided:
            return False
        _log.warning("the endpoint takes no %s; requests leave it out", ", ".join(sorted(refused)))
        self._avoided |= refused
        return True

    def _fitted(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return a request without the fields that the server has refused."""
        names = {name: SUBSTITUTES[name] if name in self._avoided else name for name in body}
        return {name: body[known] for known, name in names.items() if name}

    def _post(self, body: dict[str, Any], allowed_s: float) -> _Answer:
        """Send a request and read the whole answer. Raises httpx2.HTTPError, and _Late after `allowed_s`.

        The library bounds every read, not their sum, so a server that sends now and then would hold us
        forever: we look at the clock after each part, and wait for the headers in another thread.
        """
        ends, begun = time.monotonic() + allowed_s, threading.Event()
        done: queue.SimpleQueue[_Answer | Exception] = queue.SimpleQueue()

        def read() -> _Answer:
            timeout = httpx2.Timeout(allowed_s, connect=min(allowed_s, 10))
            with self._client.stream("POST", self._url, json=body, timeout=timeout) as reply:
                data = bytearray()
                for part in reply.iter_bytes():
                    data += part
                    if part.strip():
                        begun.set()
                    if time.monotonic() > ends or len(data) > ANSWER_BYTES:
                        raise _Late(begun.is_set())
                return _Answer(reply.status_code, reply.headers, bytes(data))

        def work() -> None:
            try:
                done.put(read())
            except httpx2.TimeoutException as error:
                done.put(_Late(begun.is_set()) if isinstance(error, httpx2.ReadTimeout) else error)
            except (httpx2.HTTPError, _Late) as error:
                done.put(error)
            except Exception as error:  # whatever else a server's bytes may lead to in the library
                done.put(httpx2.RequestError(f"{type(error).__name__}: {error}"))

        threading.Thread(target=work, name="endpoint request", daemon=True).start()
        try:
            found = done.get(timeout=allowed_s + LINGER_S)
        except queue.Empty:
            raise _Late(begun.is_set()) from None
        if isinstance(found, Exception):
            raise found
        return found

    def _decoded(self, reply: _Answer) -> dict[str, Any]:
        try:
            return json.loads(reply.data)
        except (ValueError, RecursionError) as error:
            raise PolicyError(
                f"the endpoint {self._url} did not answer in JSON; does the URL end in /v1?"
            ) from error

    def _described(self, reply: _Answer) -> str:
        return f"HTTP {reply.status} {self._redacted(' '.join(reply.text.split()))[:300]}"

    def _redacted(self, text: str) -> str:
        """Return a text without the API key, however it is written there."""
        return text.replace(self._key, "…") if self._key else text


class EndpointSession:
    """One conversation as chat messages."""

    def __init__(
        self, policy: EndpointPolicy, tools: Sequence[ToolSpec], first: Observation, seed: int
    ) -> None:
        self._policy = policy
        self._tools = [openai_tool(tool) for tool in tools]
        self._seed = seed
        system = [{"role": "system", "content": policy.system}] if policy.system else []
        self._messages: list[dict[str, Any]] = [*system, {"role": "user", "content": first.text}]
        self._turn = 0

    def act(self, *, deadline: float) -> Action | StopReason:
        """Request the next message and parse its calls."""
        body: dict[str, Any] = {
            "model": self._policy.model,
            "messages": self._messages,
            "tools": self._tools,
            "seed": self._seed if not self._turn else episode_seed(self._seed, self._turn),
        }
        if self._policy.temperature is not None:
            body["temperature"] = self._policy.temperature
        if self._policy.max_tokens is not None:
            body["max_tokens"] = self._policy.max_tokens
        answer = self._policy.ask(body, deadline=deadline)
        if isinstance(answer, StopReason):
            return answer
        try:
            choice = _REPLY.validate_python(answer).choices[0]
        except (ValidationError, IndexError, ValueError, RecursionError) as error:
            raise PolicyError("the endpoint's answer is not a chat completion") from error
        self._turn += 1
        return self._read(choice)

    def observe(self, observations: Sequence[Observation]) -> None:
        """Add tool results, or a correction, to the messages."""
        for seen in observations:
            if seen.call_id is None:
                self._messages.append({"role": "user", "content": seen.text})
            else:
                self._messages.append({"role": "tool", "tool_call_id": seen.call_id, "content": seen.text})

    def fork(self, *, seed: int) -> EndpointSession:
        """Return a session with a copy of the messages and another seed."""
        other = copy.copy(self)
        other._seed, other._messages = seed, list(self._messages)
        return other

    def _read(self, choice: _Choice) -> Action:
        """Parse the calls of a response and append the response to the messages."""
        message = choice.message
        text, asked = _storable(message.text), message.tool_calls or []
        cut = "Your answer was cut off. " if choice.finish_reason == "length" else ""
        try:
            calls = tuple(self._call(call, number) for number, call in enumerate(asked, 1))
        except ValueError as error:
            # Calls that do not parse are kept as text: servers refuse messages that hold them.
            written = "\n".join(f"{call.function.name}({call.function.arguments})" for call in asked)
            action = Action((), _storable(f"{text}\n{written}".strip()), error=f"{cut}{error}.")
            return self._keep(action, message.thought)
        return self._keep(Action(calls, text, error="" if calls else cut + NO_CALL), message.thought)

    def _call(self, call: _Call, number: int) -> ToolCall:
        raw = call.function.arguments
        # Through JSON text either way, so that the same checks hold for servers that send an object. Servers
        # send nothing at all in many ways.
        arguments = parse_arguments(raw if isinstance(raw, str) and raw else json.dumps(raw or {}))
        name = call.id or f"call_{self._turn}_{number}"
        return ToolCall(_storable(name), _storable(call.function.name), arguments)

    def _keep(self, action: Action, thought: dict[str, str]) -> Action:
        """Append an answer to the messages; the action's text gets its reasoning, for people."""
        message: dict[str, Any] = {"role": "assistant", "content": action.text, **thought}
        if action.calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
                }
                for call in action.calls
            ]
        self._messages.append(message)
        said = "".join(f"<think>\n{words}\n</think>\n\n" for words in list(thought.values())[:1])
        return replace(action, text=said + action.text)


def _key() -> str:
    """Return the API key. Raises PolicyError, which does not show the key."""
    variable = next((name for name in KEY_VARIABLES if os.environ.get(name)), "")
    key = os.environ.get(variable, "").strip()
    if not all("!" <= character <= "~" for character in key):
        raise PolicyError(f"the API key in {variable} holds characters that no header can hold")
    return key


def _overflows(said: str) -> bool:
    """Whether a refusal says that the conversation is longer than the model's context."""
    return bool(_OVERFLOW.search(said)) or ("context" in said and "length" in said)


def _storable(text: str) -> str:
    """Replace halves of surrogate pairs, which no file and no request can hold."""
    return text.encode("utf-8", "replace").decode()


def _retry_after(reply: _Answer) -> float:
    """Seconds in the Retry-After header; 0 when the header is absent or holds a date."""
    text = reply.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0
