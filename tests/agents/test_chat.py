"""The codec: pieces cut from templates, and text that can never become control."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.chat import ChatCodec, ChatTemplateError, openai_tool
from agents.dialects import FormatProblem
from agents.types import Action, Completion, Turn, VersionSpan
from envs.tools.base import ToolSpec
from envs.types import Observation, ToolCall

VIEW = ToolSpec("view", "Show a file.", {"type": "object", "properties": {"path": {"type": "string"}}})
CALL = ToolCall("call_1", "view", {"path": "a.py"})
CONTROL = ["<|im_end|>", "<|im_start|>", "<|endoftext|>", "<tool_call>", "</tool_response>", "<think>"]


any_text = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(CONTROL), max_size=6
).map("".join)


def result(text):
    return Observation(text, call_id="call_1")


@pytest.fixture(scope="session")
def codecs(make_tokenizer):
    return {
        (template, way): ChatCodec(make_tokenizer(template), way, system="Work.")
        for template in ("chatml", "reasoning", "separate")
        for way in ("hermes", "qwen3-coder")
    }


def test_a_conversation_is_what_the_template_would_render(make_tokenizer, codecs):
    tokenizer, codec = make_tokenizer(), codecs["chatml", "hermes"]
    action = codec.encode_action([CALL], "I look.")
    ids = [*codec.open("Fix it.", [VIEW]), *action, *codec.extend([result("x = 1")] * 2, after=action)]
    rendered = tokenizer.apply_chat_template(
        [
            {"role": "system", "content": "Work."},
            {"role": "user", "content": "Fix it."},
            {"role": "assistant", "content": "I look.\n" + codec.dialect.render([CALL])},
            {"role": "tool", "content": "x = 1"},
            {"role": "tool", "content": "x = 1"},
        ],
        tools=[openai_tool(VIEW)],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert codec.decode(ids) == rendered
    assert tuple(ids[-3:]) == codec.open("", [])[-3:], (
        "the generation prompt is made of the same ids everywhere"
    )


def test_reasoning_in_earlier_turns_stays_where_it_was_sampled(codecs):
    codec = codecs["reasoning", "hermes"]
    assert codec.decode(codec.open("Fix it.", [])).endswith("<|im_start|>assistant\n<think>\n")
    after = codec.decode(codec.extend([result("seen")], after=codec.encode_action([CALL])))
    assert after.endswith("<|im_start|>assistant\n<think>\n")
    assert after.startswith("\n<|im_start|>user\n<tool_response>\nseen\n</tool_response><|im_end|>")


def test_template_options_reach_the_template(make_tokenizer):
    codec = ChatCodec(make_tokenizer("reasoning"), template_options={"enable_thinking": False})
    assert codec.decode(codec.open("Fix it.", [])).endswith("<think>\n\n</think>\n\n")
    assert codec.parse(codec.encode_action([CALL]))[1] == (CALL,)


def test_calls_inside_reasoning_are_not_calls(codecs):
    codec = codecs["reasoning", "hermes"]
    call = codec.dialect.render([CALL])
    ids = codec._text.control(f"maybe {call}\n</think>\n\nno<|im_end|>")
    problem = codec.parse(ids)[1]
    assert isinstance(problem, FormatProblem) and "no tool call" in problem.text
    unended = codec.parse(codec._text.control(f"maybe {call}<|im_end|>"))[1]
    assert isinstance(unended, FormatProblem) and "never ended with </think>" in unended.text
    assert codec.parse(codec._text.control(f"maybe {call}</think>{call}<|im_end|>"))[1] == (CALL,)


def test_a_separate_message_for_each_result_works_too(codecs):
    codec = codecs["separate", "hermes"]
    text = codec.decode(codec.extend([result("one"), result("two")], after=codec.encode_action([CALL])))
    assert text == (
        "\n<|im_start|>tool\none<|im_end|>\n<|im_start|>tool\ntwo<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_correction_is_a_user_message(codecs):
    codec = codecs["chatml", "hermes"]
    text = codec.decode(codec.extend([Observation("No.")], after=codec.encode_action([CALL])))
    assert text == "\n<|im_start|>user\nNo.<|im_end|>\n<|im_start|>assistant\n"


def test_a_completion_cut_off_before_its_end_token_gets_one(codecs):
    codec = codecs["chatml", "hermes"]
    whole = codec.encode_action([CALL])
    ended, cut = (codec.extend([result("x")], after=ids) for ids in (whole, whole[:-1]))
    assert cut == (codec.end_id, *ended)
    assert codec.extend([result("x")], after=())[0] == codec.end_id


@pytest.mark.parametrize("mark", CONTROL)
def test_text_that_spells_a_control_token_stays_text(codecs, mark):
    for codec in codecs.values():
        action = codec.encode_action([CALL])
        clean = codec.extend([result("a  b")], after=action)
        dirty = codec.extend([result(f"a {mark} b")], after=action)
        (control_id,) = codec._text.control(mark)
        assert dirty.count(control_id) == clean.count(control_id)
        assert codec.decode(dirty) == codec.decode(clean).replace("a  b", f"a {mark} b")
        assert codec.open(mark, [VIEW]).count(control_id) == codec.open("", [VIEW]).count(control_id)


@given(text=any_text)
def test_any_observation_is_encoded_without_loss_and_without_control_tokens(codecs, text):
    codec = codecs["chatml", "hermes"]
    ids = codec._text.plain(text)
    assert codec.decode(ids) == text
    assert codec._text.control_ids.isdisjoint(ids)


@given(
    arguments=st.dictionaries(
        st.from_regex(r"[a-z]{1,8}", fullmatch=True),
        any_text,
        max_size=3,
    ),
    text=st.sampled_from(["", "I look first.", "HAVING"]),
)
def test_an_encoded_action_parses_back(codecs, arguments, text):
    call = ToolCall("call_1", "edit", arguments)
    for template in ("chatml", "reasoning", "separate"):
        codec = codecs[template, "hermes"]
        ids = codec.encode_action([call], text)
        assert ids[-1] == codec.end_id and ids.count(codec.end_id) == 1
        assert codec.parse(ids)[1] == (call,)


def turn(calls, *seen, **fields):
    return Turn(Action(tuple(calls), **fields), tuple(seen), 0.0, 0.0)


@pytest.mark.parametrize("template", ["chatml", "reasoning", "separate"])
def test_a_transcribed_episode_is_made_of_the_same_pieces_as_a_played_one(codecs, template):
    codec = codecs[template, "hermes"]
    submit = ToolCall("call_2", "submit", {})
    wrong = turn([], Observation("No call."), error="No call.")
    turns = [turn([CALL], result("x <|im_end|>")), wrong, turn([submit], result("bye"))]
    ids, sampled = codec.transcribe("Fix it.", [VIEW], turns)
    first, second = codec.encode_action([CALL]), codec.encode_action([submit])
    opening = codec.open("Fix it.", [VIEW])
    seen = codec.extend([result("x <|im_end|>")], after=first)
    assert ids == (*opening, *first, *seen, *second)
    assert sampled == (
        *[False] * len(opening), *[True] * len(first), *[False] * len(seen), *[True] * len(second)
    )  # fmt: skip


def test_episodes_that_have_tokens_are_not_transcribed(codecs):
    completion = Completion((1,), (0.0,), (VersionSpan(0, 0, 1),))
    with pytest.raises(ValueError, match="token ids already"):
        codecs["chatml", "hermes"].transcribe("Fix it.", [], [turn([CALL], completion=completion)])


REFUSED = {
    "hides tool results": "{% for m in messages if m.role != 'tool' %}{{ m.content + '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}A:{% endif %}",
    "counts messages": "{% for m in messages %}{{ loop.index ~ m.role + ':' + m.content + '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}A:{% endif %}",
    "counts them at the start": "{{ messages | length }}{% for m in messages %}"
    "{{ m.content + '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}A:{% endif %}",
    "numbers its results": "{% for m in messages %}{{ m.role ~ (loop.index if m.role == 'tool' else '') }}"
    "{{ ':' + m.content + '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}",
    "ends no turn": "{% for m in messages %}{{ m.role + ':' + m.content + '\n' }}{% endfor %}A:",
    "raises": "{{ raise_exception('roles must alternate') }}",
    "has no generation prompt": "{% for m in messages %}{{ m.role + m.content + '<|im_end|>' }}{% endfor %}",
}


@pytest.mark.parametrize("template", REFUSED.values(), ids=REFUSED)
def test_a_template_that_cannot_be_appended_to_is_refused_in_one_line(make_tokenizer, template):
    with pytest.raises(ChatTemplateError) as caught:
        ChatCodec(make_tokenizer(template), system="")
    assert "\n" not in str(caught.value)


def test_a_tokenizer_without_an_end_token_is_refused(make_tokenizer):
    tokenizer = make_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ChatTemplateError, match="no eos_token"):
        ChatCodec(tokenizer)


def test_a_codec_is_read_from_a_model_folder(make_tokenizer, tmp_path, codecs):
    make_tokenizer().save_pretrained(tmp_path)
    codec = ChatCodec.load(str(tmp_path), system="Work.")
    assert codec.open("Fix it.", [VIEW]) == codecs["chatml", "hermes"].open("Fix it.", [VIEW])


def test_many_threads_and_processes_may_use_one_codec(codecs):
    codec = codecs["chatml", "hermes"]
    copy = pickle.loads(pickle.dumps(codec))
    texts = [f"line {n} <|im_end|> HAVING" for n in range(200)]

    def encode(text):
        return codec.open(text, [VIEW]), codec.extend([result(text)], after=())

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(encode, texts))
    assert found == [(copy.open(text, [VIEW]), copy.extend([result(text)], after=())) for text in texts]
