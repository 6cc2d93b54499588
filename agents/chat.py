"""Chat codec: messages to token ids and back; the only module that uses a chat template.

A conversation is an append-only list of ids:

    open(task)  ->  [prompt ids]  +  sampled ids  +  extend(observations)  +  sampled ids  +  …

Chat templates render whole conversations, and may rewrite earlier turns (drop reasoning, merge tool
messages). The codec therefore renders dummy conversations only, whose contents are slots. It cuts out the
pieces around the slots once and puts real content between them. Template pieces are encoded with control
tokens, content without: text that spells a control token stays text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from envs.tools.base import ToolSpec
from envs.types import Observation, ToolCall

from .dialects import CLOSE, OPEN, Dialect, FormatProblem, dialect
from .prompts import prompt
from .types import Turn

_TASK = "@@daythree-slot-task@@"
_ACTION = "@@daythree-slot-action-{}@@"
_RESULT = "@@daythree-slot-result-{}-{}@@"
_REASONING = re.compile(r"<think>\s*(</think>\s*)?\Z")


class ChatTemplateError(ValueError):
    """The tokenizer's chat template cannot be used append-only."""


class ChatTokenizer(Protocol):
    """The methods of a `transformers` fast tokenizer that the codec calls."""

    eos_token: Any
    chat_template: Any

    @property
    def backend_tokenizer(self) -> Any:
        """The `tokenizers.Tokenizer` underneath."""
        ...

    def apply_chat_template(self, conversation: Any, *args: Any, **kwargs: Any) -> Any:
        """Render messages."""
        ...


@dataclass(frozen=True)
class _Frame:
    """Template text from the end of a turn to the next generation point: the pieces around `slots` texts."""

    before: str
    between: str
    after: str


class ChatCodec:
    """Encodes conversations for one tokenizer and one dialect. Immutable, safe for many threads."""

    def __init__(
        self,
        tokenizer: ChatTokenizer,
        dialect_name: str = "hermes",
        *,
        system: str | None = None,
        template_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Learn the template's pieces. Raises `ChatTemplateError` when it does not allow appending.

        `system` is the system prompt (default `prompts/system.md`; empty: no system message).
        `template_options` are passed to the template, such as `enable_thinking=False`.
        """
        self.dialect: Dialect = dialect(dialect_name)
        self.system = prompt("system") if system is None else system
        self._options = dict(template_options or {})
        self._tokenizer = tokenizer
        self._text = _Encoder(tokenizer.backend_tokenizer)
        self._end = str(tokenizer.eos_token or "")
        self._dummy_calls = True
        self._tool_frame, self._user_frame = self._learn_frames()
        self.end_id = self._text.one_token(self._end)
        self.stop_ids: tuple[int, ...] = (self.end_id,)
        self._thinking_opened = self._tool_frame.after.rstrip().endswith("<think>")
        self._check()

    @classmethod
    def load(cls, path: str, dialect_name: str = "hermes", **options: Any) -> Self:
        """Read the tokenizer from a model folder."""
        from transformers import AutoTokenizer

        return cls(AutoTokenizer.from_pretrained(path), dialect_name, **options)

    def open(self, task: str, tools: Sequence[ToolSpec]) -> tuple[int, ...]:
        """Encode system prompt, tools and task, up to the first generation point."""
        rendered = self._render([_user(_TASK)], tools)
        before, found, after = rendered.partition(_TASK)
        if not found or _TASK in after:
            raise ChatTemplateError("the chat template does not show the task exactly once")
        return (*self._text.control(before), *self._text.plain(task), *self._text.control(after))

    def extend(self, observations: Sequence[Observation], *, after: Sequence[int]) -> tuple[int, ...]:
        """Encode observations with the template's text around them, up to the next generation point.

        `after` is the completion that the observations answer; a completion that was cut off gets its end
        token first. Observations of calls become tool messages, a correction becomes a user message.
        """
        assert observations, "a conversation goes on with at least one observation"
        texts = [observation.text for observation in observations]
        frame = self._tool_frame
        if any(observation.call_id is None for observation in observations):
            frame, texts = self._user_frame, ["\n\n".join(texts)]
        ids: list[int] = [] if self.ended(after) else [self.end_id]
        ids += self._text.control(frame.before)
        for number, text in enumerate(texts):
            ids += self._text.control(frame.between) if number else ()
            ids += self._text.plain(text)
        ids += self._text.control(frame.after)
        return tuple(ids)

    def ended(self, completion: Sequence[int]) -> bool:
        """Whether a completion holds its own end token."""
        return bool(completion) and completion[-1] in self.stop_ids

    def parse(
        self, ids: Sequence[int], tools: Sequence[ToolSpec] = ()
    ) -> tuple[str, tuple[ToolCall, ...] | FormatProblem]:
        """Decode a completion into calls, or into a `FormatProblem`. Never raises."""
        text = self.decode(ids[:-1] if self.ended(ids) else ids)
        visible = text
        if self._thinking_opened or text.lstrip().startswith("<think>"):
            _, thought, visible = text.partition("</think>")
            if not thought:
                return text, self.dialect.problem("Your reasoning was never ended with </think>")
        calls = self.dialect.parse(visible, tools)
        return text, calls if isinstance(calls, FormatProblem) else tuple(calls)

    def encode_action(self, calls: Sequence[ToolCall], text: str = "") -> tuple[int, ...]:
        """Encode a turn as the model itself would have sampled it, its end token included."""
        ids = self._text.control("\n</think>\n\n" if self._thinking_opened else "")
        ids += self._text.plain(f"{text}\n" if text else "")
        for part in _split_tags(self.dialect.render(calls)):
            ids += self._text.control(part) if part in (OPEN, CLOSE) else self._text.plain(part)
        return (*ids, self.end_id)

    def transcribe(
        self,
        task: str,
        tools: Sequence[ToolSpec],
        turns: Sequence[Turn],
        *,
        taught: Callable[[Turn], bool] = lambda _: True,
    ) -> tuple[tuple[int, ...], tuple[bool, ...]]:
        """Encode an episode that was played without tokens, as if the model had sampled its actions.

        Returns ids and a mask of equal length, true on ids of actions, where the turn is to be `taught`.
        Turns without a call are left out, with the corrections that followed them. Raises ValueError when the
        turns have tokens already.
        """
        if any(turn.action.completion.token_ids for turn in turns):
            raise ValueError("these turns have token ids already; train on those")
        ids = list(self.open(task, tools))
        sampled = [False] * len(ids)
        played = [turn for turn in turns if turn.action.calls]
        for number, turn in enumerate(played):
            action = self.encode_action(turn.action.calls, turn.action.text)
            ids += action
            sampled += [taught(turn)] * len(action)
            if number + 1 < len(played):
                seen = self.extend(turn.observations, after=action)
                ids += seen
                sampled += [False] * len(seen)
        return tuple(ids), tuple(sampled)

    def decode(self, ids: Sequence[int]) -> str:
        """Turn ids into text, control tokens included."""
        return self._text.decode(ids)

    # learning the template -----------------------------------------------------------------------------

    def _render(self, messages: Sequence[dict[str, Any]], tools: Sequence[ToolSpec] = ()) -> str:
        """Render with the template, and translate its errors."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        described = [openai_tool(tool) for tool in tools] or None
        try:
            return self._tokenizer.apply_chat_template(
                [*system, *messages],
                tools=described,
                tokenize=False,
                add_generation_prompt=True,
                **self._options,
            )
        except Exception as error:  # jinja's errors, and whatever a template's own code raises
            reason = " ".join(str(error).split())
            raise ChatTemplateError(
                f"the chat template cannot render a conversation with tools: {reason}"
            ) from error

    def _learn_frames(self) -> tuple[_Frame, _Frame]:
        """Cut both frames out of dummy conversations, and check that they are equal at every position."""
        if not self._end:
            raise ChatTemplateError("the tokenizer has no eos_token, so no turn could ever end")
        try:
            (single,) = self._cut([1])
        except ChatTemplateError as refusal:
            self._dummy_calls = False  # some templates hide the text of turns with calls; try without calls
            try:
                (single,) = self._cut([1])
            except ChatTemplateError:
                raise refusal from None  # what the template says of calls is the better hint
        rounds = self._cut([1, 2, 3])
        befores = {cuts[0] for cuts in rounds}
        betweens = {cut for cuts in rounds for cut in cuts[1:-1]}
        afters = {_without_reasoning(cuts[-1]) for cuts in rounds}
        last = {rounds[-1][-1], single[-1]}
        if any(len(pieces) != 1 for pieces in (befores, betweens, afters, last)):
            raise ChatTemplateError(
                "the chat template renders tool results differently in different places, "
                "so a conversation cannot be appended to; use a template that keeps earlier turns"
            )
        correction = self._cut([1, 0])[-1]
        return _Frame(single[0], betweens.pop(), single[-1]), _Frame(correction[0], "", correction[-1])

    def _cut(self, rounds: Sequence[int]) -> list[list[str]]:
        """Render rounds of an action and so many results; return each round's pieces around its results.

        A round of 0 results is answered by one user message instead.
        """
        messages = [_user(_TASK)]
        for number, count in enumerate(rounds):
            messages.append({"role": "assistant", "content": _ACTION.format(number)})
            if not count:
                messages.append(_user(_RESULT.format(number, 0)))
            elif self._dummy_calls:
                messages[-1]["tool_calls"] = [_dummy_call(n) for n in range(count)]
            messages += [_dummy_result(number, n) for n in range(count)]
        rendered = self._render(messages)
        head, _, _ = _once(rendered, _ACTION.format(0))
        if _without_reasoning(head) != _without_reasoning(self._render([_user(_TASK)])):
            raise ChatTemplateError(
                "the chat template renders a task differently once it has been worked on, "
                "so a conversation cannot be appended to"
            )
        pieces: list[list[str]] = []
        for number, count in enumerate(rounds):
            rest = _once(rendered, _ACTION.format(number))[2]
            _, ended, rest = rest.partition(self._end)
            if not ended:
                raise ChatTemplateError(f"the chat template does not end turns with {self._end!r}")
            cuts = []
            for n in range(max(count, 1)):
                piece, _, rest = _once(rest, _RESULT.format(number, n))
                cuts.append(piece)
            last = number + 1 == len(rounds)
            cuts.append(rest if last else _once(rest, _ACTION.format(number + 1))[0])
            pieces.append(cuts)
        return pieces

    def _check(self) -> None:
        """Check a dummy conversation; raise for a template or tokenizer that loses text."""
        observation = Observation(f"ünï\r\n\t{self._end} {OPEN} </think>", call_id="call_1")
        call = ToolCall("call_1", "view", {"path": "a b/ü.py"})
        action = self.encode_action([call])
        for seen in ([observation], [observation] * 2, [Observation("x")]):
            frame = self._tool_frame if seen[0].call_id else self._user_frame
            expected = frame.before + frame.between.join(o.text for o in seen) + frame.after
            if self.decode(self.extend(seen, after=action)) != expected:
                raise ChatTemplateError("the tokenizer does not give back the text that was encoded")
        if not self._tool_frame.after.strip():
            raise ChatTemplateError("the chat template has no generation prompt")
        if self.parse(action)[1] != (call,):
            raise ChatTemplateError(f"the tokenizer cannot write a {self.dialect.name} tool call")


class _Encoder:
    """Encodes text with one tokenizer, either with control tokens or without."""

    def __init__(self, backend: Any) -> None:
        # `split_special_tokens` is a switch on the shared tokenizer, which races between threads; and it
        # leaves added tokens alone that are not marked special (Qwen's <tool_call>). So two copies.
        source = json.loads(backend.to_str())
        source["truncation"] = source["padding"] = None
        self._control = type(backend).from_str(json.dumps(source))
        added = [token for token in source["added_tokens"] if token["content"].strip()]
        for token in added:
            token["special"] = True
        self._plain = type(backend).from_str(json.dumps(source))
        self._plain.encode_special_tokens = True
        self.control_ids = frozenset(token["id"] for token in added)

    def __reduce__(self) -> tuple[Any, ...]:
        # The switch is not part of a pickled tokenizer, so a copy is made anew.
        return _Encoder, (self._control,)

    def control(self, text: str) -> list[int]:
        """Encode text in which control tokens count."""
        return self._control.encode(text, add_special_tokens=False).ids if text else []

    def plain(self, text: str) -> list[int]:
        """Encode text that is only text. Raises `ChatTemplateError` where the tokenizer cannot do that."""
        ids = self._plain.encode(text, add_special_tokens=False).ids if text else []
        if not self.control_ids.isdisjoint(ids):
            raise ChatTemplateError("the tokenizer turns ordinary text into control tokens")
        return ids

    def one_token(self, text: str) -> int:
        """The id of a control token. Raises `ChatTemplateError` when it is not one token."""
        ids = self.control(text)
        if len(ids) != 1 or ids[0] not in self.control_ids:
            raise ChatTemplateError(f"the end-of-turn token {text!r} is not a single control token")
        return ids[0]

    def decode(self, ids: Sequence[int]) -> str:
        return self._control.decode(list(ids), skip_special_tokens=False)


def openai_tool(tool: ToolSpec) -> dict[str, Any]:
    """A tool as the JSON schema that chat templates and chat endpoints read."""
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def _user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def _dummy_call(number: int) -> dict[str, Any]:
    function = {"name": "view", "arguments": {"path": "x"}}
    return {"id": f"call0000{number}", "type": "function", "function": function}


def _dummy_result(round_number: int, number: int) -> dict[str, Any]:
    text = _RESULT.format(round_number, number)
    return {"role": "tool", "name": "view", "tool_call_id": f"call0000{number}", "content": text}


def _without_reasoning(piece: str) -> str:
    """Drop an opened or empty reasoning block at the end, where old and new turns may differ."""
    return _REASONING.sub("", piece)


def _once(text: str, mark: str) -> tuple[str, str, str]:
    """Split at a slot that occurs exactly once."""
    parts = text.partition(mark)
    if not parts[1] or mark in parts[2]:
        raise ChatTemplateError(
            "the chat template does not show every message of a conversation with tool results exactly once, "
            "so it cannot be appended to"
        )
    return parts


def _split_tags(text: str) -> list[str]:
    """Split rendered calls so that the tags around each call stand alone."""
    parts: list[str] = []
    rest = text
    while OPEN in rest:
        before, _, rest = rest.partition(OPEN)
        body, _, rest = rest.partition(CLOSE)
        parts += [before, OPEN, body, CLOSE]
    return [*parts, rest]
