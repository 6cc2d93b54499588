"""Tokens in, tokens out: what is recorded is exactly what was seen and sampled."""

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.chat import ChatCodec
from agents.engine import Sampling, ScriptedEngine
from agents.policies.token import TokenPolicy
from agents.rollout import run_episode
from agents.types import Completion, PolicyError, VersionSpan
from envs.types import Observation, StopReason, ToolCall

CONTROL = ["<|im_end|>", "<|im_start|>assistant\n", "<tool_call>", "</tool_response>", "<think>", "</think>"]
any_text = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    | st.sampled_from([*CONTROL, "HAVING", "HAV", "ING", " ", "\n\n"]),
    max_size=5,
).map("".join)


@pytest.fixture(scope="session")
def codecs(make_tokenizer):
    return {
        name: ChatCodec(make_tokenizer(name), system="Work.") for name in ("chatml", "reasoning", "separate")
    }


def forever():
    return time.monotonic() + 60


class Recording(ScriptedEngine):
    """Plays completions and remembers what it was sent and what it gave."""

    def __init__(self, completions):
        self.sent, self.given = [], []
        self._left = iter(completions)
        super().__init__(lambda ids: next(self._left), version=3)

    def generate(self, ids, sampling, *, seed, deadline):
        self.sent.append(tuple(ids))
        completion = super().generate(ids, sampling, seed=seed, deadline=deadline)
        self.given.append(completion.token_ids)
        return completion


@st.composite
def conversations(draw):
    """Completions as raw ids, and what each led to: results of calls, or a correction."""
    count = draw(st.integers(1, 6))
    return [
        (
            draw(st.lists(st.integers(0, 560), max_size=12)),
            draw(st.lists(any_text, min_size=1, max_size=3)),
            draw(st.booleans()),
        )
        for _ in range(count)
    ]


@settings(max_examples=200, deadline=None)
@given(
    name=st.sampled_from(["chatml", "reasoning", "separate"]),
    task=any_text,
    rounds=conversations(),
    max_tokens=st.integers(1, 14),
    max_context=st.integers(40, 400),
)
def test_recorded_ids_are_what_the_engine_saw_and_sampled(
    codecs, make_task, name, task, rounds, max_tokens, max_context
):
    engine = Recording([completion for completion, _, _ in rounds])
    policy = TokenPolicy(engine, codecs[name], Sampling(max_tokens=max_tokens), max_context=max_context)
    session = policy.start(make_task(), (), Observation(task), seed=1)
    recorded, sampled = [], []
    for _, texts, answered in rounds:
        action = session.act(deadline=forever())
        if action is StopReason.MAX_TOKENS:
            break
        recorded += [*action.prompt_ids, *action.completion.token_ids]
        sampled += [False] * len(action.prompt_ids) + [True] * len(action.completion.token_ids)
        session.observe([Observation(text, call_id="call_1" if answered else None) for text in texts])
    if engine.sent:
        assert tuple(recorded) == (*engine.sent[-1], *engine.given[-1]) == session.ids
    else:
        assert recorded == []
    for i, (prompt, given_) in enumerate(zip(engine.sent, engine.given, strict=True)):
        conversation = (*prompt, *given_)
        assert len(conversation) <= max_context
        assert tuple(recorded[: len(conversation)]) == conversation
        if i + 1 < len(engine.sent):
            assert engine.sent[i + 1][: len(conversation)] == conversation
        assert sampled[len(prompt) : len(conversation)] == [True] * len(given_)
    assert sum(sampled) == sum(map(len, engine.given))


def test_ambiguous_strings_keep_the_ids_they_were_sampled_as(codecs, make_task):
    codec = codecs["chatml"]
    usual = codec._text.plain("HAVING")
    unusual = [i for char in "HAVING" for i in codec._text.plain(char)]
    assert usual != unusual
    assert codec.decode(usual) == codec.decode(unusual)
    engine = Recording([[*unusual, codec.end_id], [*usual, codec.end_id]])
    policy = TokenPolicy(engine, codec, Sampling(), max_context=4_000)
    session = policy.start(make_task(), (), Observation("x"), seed=0)
    for ids in (unusual, usual):
        action = session.act(deadline=forever())
        assert action.text == "HAVING"
        assert action.completion.token_ids == (*ids, codec.end_id)
        session.observe([Observation("go on")])
    assert engine.sent[1][: len(engine.sent[0]) + 7] == (*engine.sent[0], *unusual, codec.end_id)


def test_an_episode_played_by_tokens_is_solved_and_recorded(codecs, make_env, make_task):
    codec, task = codecs["chatml"], make_task()
    calls = [
        ToolCall("", "view", {"path": "a.py"}),
        ToolCall("", "edit", {"old": "bad", "new": "good"}),
        ToolCall("", "submit", {}),
    ]
    engine = Recording([codec.encode_action([call]) for call in calls])
    policy = TokenPolicy(engine, codec, Sampling(), max_context=4_000)
    trajectory = run_episode(make_env([task]), policy, task=task, seed=0)
    assert (trajectory.stop, trajectory.reward) == (StopReason.SUBMITTED, 1.0)
    assert [turn.action.calls[0].id for turn in trajectory.turns] == ["call_1_1", "call_2_1", "call_3_1"]
    ids = [i for t in trajectory.turns for i in (*t.action.prompt_ids, *t.action.completion.token_ids)]
    assert tuple(ids) == (*engine.sent[-1], *engine.given[-1])
    assert trajectory.turns[0].action.completion.versions == (VersionSpan(3, 0, len(engine.given[0])),)
    transcribed, sampled = codec.transcribe(
        task.instruction,
        make_env([]).tools,
        [without_tokens(turn) for turn in trajectory.turns],
    )
    assert transcribed == tuple(ids), "a warm start sees the very ids that play would have made"
    assert sum(sampled) == sum(map(len, engine.given))


def without_tokens(turn):
    return replace(turn, action=replace(turn.action, completion=Completion(), text=""))


def test_a_conversation_without_room_stops_and_is_graded(codecs, make_env, make_task):
    codec, task = codecs["chatml"], make_task()
    call = codec.encode_action([ToolCall("", "edit", {"old": "bad", "new": "good"})])
    engine = Recording([call] * 100)
    opening = len(codec.open(task.instruction, make_env([]).tools))
    policy = TokenPolicy(engine, codec, Sampling(), max_context=opening + len(call) + 5)
    env = make_env([task])
    trajectory = run_episode(env, policy, task=task, seed=0)
    assert (trajectory.stop, trajectory.reward) == (StopReason.MAX_TOKENS, 1.0)
    assert env.finished == [StopReason.MAX_TOKENS]
    assert len(trajectory.turns) == 1


def test_an_answer_that_is_cut_off_is_told_so(codecs, make_task):
    policy = TokenPolicy(Recording([[65] * 50]), codecs["chatml"], Sampling(max_tokens=7), max_context=4_000)
    action = policy.start(make_task(), (), Observation("x"), seed=0).act(deadline=forever())
    assert action.completion.finish_reason == "length"
    assert action.error.startswith("Your answer was cut off after 7 tokens. ")


class Aborting:
    """An engine that gives up."""

    def generate(self, ids, sampling, *, seed, deadline):
        return Completion((5,), (0.0,), (VersionSpan(0, 0, 1),), "abort")


def test_an_aborted_completion_is_time_after_the_deadline_and_a_failure_before_it(codecs, make_task):
    policy = TokenPolicy(Aborting(), codecs["chatml"], Sampling(), max_context=4_000)
    session = policy.start(make_task(), (), Observation("x"), seed=0)
    assert session.act(deadline=time.monotonic() - 1) is StopReason.TIME
    with pytest.raises(PolicyError, match="gave up"):
        session.act(deadline=forever())


def test_every_turn_and_every_episode_has_a_seed_of_its_own(codecs, make_task):
    seeds = []

    class Seeing(Recording):
        def generate(self, ids, sampling, *, seed, deadline):
            seeds.append(seed)
            return super().generate(ids, sampling, seed=seed, deadline=deadline)

    for seed in range(5):
        policy = TokenPolicy(Seeing([[5]] * 5), codecs["chatml"], Sampling(), max_context=4_000)
        session = policy.start(make_task(), (), Observation("x"), seed=seed)
        for _ in range(5):
            session.act(deadline=forever())
            session.observe([Observation("y")])
    assert len(set(seeds)) == 25
