"""Tool call formats: what models write, what they write wrongly, and round trips."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.dialects import DIALECTS, MAX_DEPTH, FormatProblem, dialect, parse_arguments
from envs.tools.base import ToolSpec
from envs.types import ToolCall

HERMES, CODER = dialect("hermes"), dialect("qwen3-coder")

EDIT = ToolSpec(
    "edit",
    "Change a file.",
    {
        "type": "object",
        "properties": {
            "path": {"type": "string"},
            "line": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "create": {"type": "boolean"},
            "ratio": {"type": "number"},
            "items": {"type": "array"},
            "options": {"type": "object"},
            "query": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        },
    },
)

GOLDEN = [
    (
        HERMES,
        '<tool_call>\n{"name": "view", "arguments": {"path": "a.py", "start": 3}}\n</tool_call>',
        [("view", {"path": "a.py", "start": 3})],
    ),
    (
        HERMES,
        (
            'I look first.\n<tool_call>{"name":"submit"}</tool_call>\n'
            '<tool_call>\n{"arguments": {}, "name": "test"}\n</tool_call>'
        ),
        [("submit", {}), ("test", {})],
    ),
    (
        HERMES,
        '<tool_call>{"name": "view", "arguments": "{\\"path\\": \\"a\\"}"}</tool_call>',
        [("view", {"path": "a"})],
    ),
    (
        CODER,
        (
            "Now.\n<tool_call>\n<function=edit>\n<parameter=path>\na.py\n</parameter>\n<parameter=line>\n7\n"
            "</parameter>\n<parameter=create>\nTrue\n</parameter>\n</function>\n</tool_call>"
        ),
        [("edit", {"path": "a.py", "line": 7, "create": True})],
    ),
    (
        CODER,
        (
            "<tool_call>\n<function=edit>\n<parameter=path>\n\n  two\n\nlines \n\n</parameter>\n"
            "</function>\n</tool_call>"
        ),
        [("edit", {"path": "\n  two\n\nlines \n"})],
    ),
    (CODER, "<tool_call>\n<function=submit>\n</function>\n</tool_call>", [("submit", {})]),
    (
        CODER,
        (
            "<tool_call><function=edit><parameter=query>12</parameter><parameter=ratio>2</parameter>"
            "<parameter=options>{}</parameter></function></tool_call>"
        ),
        [("edit", {"query": "12", "ratio": 2, "options": {}})],
    ),
    (
        CODER,
        (
            "<tool_call>\n<function=edit>\n<parameter=path>\nuse </parameter> here\n</parameter>\n"
            "</function>\n</tool_call>"
        ),
        [("edit", {"path": "use </parameter> here"})],
    ),
]

GOLDEN += [
    (
        HERMES,
        '<tool_call>{"id": "1", "type": "function", "name": "a", "parameters": {"b": 1}}</tool_call>',
        [("a", {"b": 1})],
    ),
]

MALFORMED = [
    (HERMES, "", "no tool call"),
    (HERMES, "I am done.", "no tool call"),
    (HERMES, '{"name": "submit"}', "no tool call"),
    (HERMES, '<tool_call>{"name": "submit"}', "never closed"),
    (HERMES, '{"name": "submit"}</tool_call>', "without a <tool_call>"),
    (HERMES, '<tool_call><tool_call>{"name": "submit"}</tool_call>', "inside another"),
    (HERMES, "<tool_call></tool_call>", "not valid JSON"),
    (HERMES, '<tool_call>{"name": "view", "arguments": {"path": "a}}</tool_call>', "not valid JSON"),
    (HERMES, '<tool_call>["view"]</tool_call>', "must be a JSON object"),
    (HERMES, '<tool_call>{"arguments": {}}</tool_call>', 'no "name"'),
    (HERMES, '<tool_call>{"name": 7}</tool_call>', 'no "name"'),
    (HERMES, '<tool_call>{"name": "view", "path": "a"}</tool_call>', 'has "path" beside its "name"'),
    (
        HERMES,
        '<tool_call>{"name": "a", "arguments": {}, "parameters": {}}</tool_call>',
        'has "parameters" beside',
    ),
    (HERMES, '<tool_call>{"name": "a", "arguments": {"b": 1, "b": 2}}</tool_call>', "b twice"),
    (HERMES, '<tool_call>{"name": "a"}{"name": "b"}</tool_call>', "not valid JSON"),
    (HERMES, '<tool_call>{"name": "view", "arguments": [1]}</tool_call>', "must be a JSON object"),
    (HERMES, '<tool_call>{"name": "view", "arguments": {"path": "\\ud800"}}</tool_call>', "surrogate"),
    (HERMES, '<tool_call>{"name": "view", "arguments": {"n": 1e999}}</tool_call>', "not finite"),
    (HERMES, '<tool_call>{"name": "view", "arguments": {"n": NaN}}</tool_call>', "not finite"),
    (HERMES, '<tool_call>{"name":"a"}</tool_call><tool_call>{"name":</tool_call>', "not valid JSON"),
    (CODER, "<function=submit></function>", "no tool call"),
    (CODER, "<tool_call>submit</tool_call>", "<function=NAME>"),
    (CODER, "<tool_call><function=edit>path=a</function></tool_call>", "<parameter=KEY>"),
    (CODER, "<tool_call><function=edit><parameter=path>a</function></tool_call>", "<parameter=KEY>"),
    (
        CODER,
        "<tool_call><function=edit><parameter=line>many</parameter></function></tool_call>",
        "line must be of type integer or null",
    ),
    (
        CODER,
        "<tool_call><function=edit><parameter=line>1.5</parameter></function></tool_call>",
        "line must be of type integer or null",
    ),
    (
        CODER,
        "<tool_call><function=edit><parameter=line>true</parameter></function></tool_call>",
        "line must be of type integer or null",
    ),
    (
        CODER,
        (
            "<tool_call><function=edit><parameter=path>a</parameter><parameter=path>b</parameter>"
            "</function></tool_call>"
        ),
        "given twice",
    ),
]


@pytest.mark.parametrize(("way", "text", "expected"), GOLDEN)
def test_what_models_write_is_read(way, text, expected):
    calls = way.parse(text, [EDIT])
    assert [(call.name, call.arguments) for call in calls] == expected
    assert [call.id for call in calls] == [f"call_{n}" for n in range(1, len(calls) + 1)]


@pytest.mark.parametrize(("way", "text", "reason"), MALFORMED)
def test_malformed_calls_are_problems_that_say_what_is_wrong_and_show_a_call(way, text, reason):
    problem = way.parse(text, [EDIT])
    assert isinstance(problem, FormatProblem)
    assert reason in problem.text
    assert way.example in problem.text


@pytest.mark.parametrize("way", DIALECTS.values(), ids=DIALECTS)
def test_the_example_of_a_correction_is_itself_well_formed(way):
    (call,) = way.parse(way.example)
    assert (call.name, call.arguments) == ("view", {"path": "README.md"})


def test_an_unknown_dialect_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="known are hermes, qwen3-coder"):
        dialect("xml")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 5_000 + "1" + "}" * 5_000, "9" * 5_000])
def test_absurd_json_is_refused_not_crashed_on(text):
    with pytest.raises(ValueError, match="arguments"):
        parse_arguments(text)


def test_nesting_is_bounded():
    deep = json.dumps({"a": json.loads("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))})
    with pytest.raises(ValueError, match="nest too deeply"):
        parse_arguments(deep)


any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.sampled_from(
    ["</tool_call>", "<tool_call>", "\\u003c/tool_call>", "</parameter>\n", "</think>", '"', "\\"]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=8,
)
names = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)


@given(st.lists(st.tuples(names, st.dictionaries(any_text, json_values, max_size=4)), min_size=1, max_size=3))
def test_hermes_gives_back_every_call(pairs):
    calls = [ToolCall(f"call_{n}", name, arguments) for n, (name, arguments) in enumerate(pairs, 1)]
    assert HERMES.parse("text before\n" + HERMES.render(calls)) == calls


@given(
    st.fixed_dictionaries(
        {"path": any_text},
        optional={
            "line": st.none() | st.integers(),
            "create": st.booleans(),
            "ratio": st.floats(allow_nan=False, allow_infinity=False) | st.integers(),
            "items": st.lists(json_values, max_size=3),
            "options": st.dictionaries(any_text, json_values, max_size=3),
            "query": any_text,
        },
    )
)
def test_qwen3_coder_gives_back_every_call_it_can_write(arguments):
    call = ToolCall("call_1", "edit", arguments)
    try:
        text = CODER.render([call])
    except ValueError:
        assert any("<" in str(value) for value in arguments.values())
    else:
        assert CODER.parse(text, [EDIT]) == [call]


@given(
    st.text(max_size=200)
    | st.lists(
        st.sampled_from(
            [
                "<tool_call>",
                "</tool_call>",
                "<function=a>",
                "</function>",
                "<parameter=b>",
                "</parameter>",
                '{"',
                "x",
            ]
        ),
        max_size=12,
    ).map("".join)
)
def test_parsing_never_raises_and_never_gives_an_empty_answer(text):
    for way in DIALECTS.values():
        read = way.parse(text, [EDIT])
        assert isinstance(read, FormatProblem) or read
