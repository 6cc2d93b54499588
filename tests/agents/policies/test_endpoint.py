"""The endpoint policy against a real little HTTP server."""

import socket
import threading
import time
from contextlib import contextmanager, suppress

import pytest

from agents.policies.endpoint import KEY_VARIABLES, EndpointPolicy
from agents.rollout import run_episode
from agents.runs.store import TrajectoryStore
from agents.types import PolicyError
from envs.types import Limits, Observation, StopReason, ToolCall


def says(content=None, *calls, finish="stop"):
    """A chat completion; calls are (id, name, arguments as text)."""
    asked = [
        {"id": i, "type": "function", "function": {"name": name, "arguments": arguments}}
        for i, name, arguments in calls
    ]
    message = {"role": "assistant", "content": content, "tool_calls": asked or None}
    return 200, {"choices": [{"index": 0, "message": message, "finish_reason": finish}]}


EDIT = says("I mend it.", ("c1", "edit", '{"old": "bad", "new": "good"}'))
SUBMIT = says(None, ("c2", "submit", ""))


@pytest.fixture
def server(chat_server):
    return chat_server


@pytest.fixture
def policy(server, monkeypatch):
    for name in KEY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    made = EndpointPolicy(server.url + "/", "org/model", system="Work.", first_wait_s=0.01)
    yield made
    made.close()


def forever():
    return time.monotonic() + 30


def act(policy, make_task, **fields):
    return policy.start(make_task(), (), Observation("x"), seed=0).act(deadline=forever(), **fields)


def test_an_episode_is_played_through_chat_messages(server, policy, make_env, make_task):
    server.replies = [EDIT, SUBMIT]
    task, env = make_task(), make_env([make_task()])
    trajectory = run_episode(env, policy, task=task, seed=5)
    assert (trajectory.stop, trajectory.reward) == (StopReason.SUBMITTED, 1.0)
    assert trajectory.policy == "endpoint:org/model"
    assert trajectory.turns[0].action.calls == (ToolCall("c1", "edit", {"old": "bad", "new": "good"}),)
    assert trajectory.turns[0].action.text == "I mend it."
    first, second = server.requests
    assert (first["model"], first["seed"]) == ("org/model", 5)
    assert first["messages"] == [
        {"role": "system", "content": "Work."},
        {"role": "user", "content": task.instruction},
    ]
    assert [tool["function"]["name"] for tool in first["tools"]] == ["view", "edit", "submit"]
    assert second["messages"][:2] == first["messages"]
    assert second["messages"][2]["tool_calls"][0]["id"] == "c1"
    assert second["messages"][3] == {"role": "tool", "tool_call_id": "c1", "content": "good\n"}
    assert server.headers[0] == ("/v1/chat/completions", None)


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_is_shown_and_sent_back_as_it_came(server, policy, make_env, make_task, name):
    status, reply = says(None, ("c", "view", "{}"))
    reply["choices"][0]["message"][name] = "I think.\ud83d"
    server.replies = [(status, reply), SUBMIT]
    trajectory = run_episode(make_env([make_task()]), policy, task=make_task(), seed=0)
    assert trajectory.turns[0].action.text == "<think>\nI think.?\n</think>\n\n"
    kept = server.requests[1]["messages"][2]
    assert (kept[name], kept["content"]) == ("I think.?", "")


@pytest.mark.parametrize("arguments", [None, [], {}, "", "{}"])
def test_nothing_at_all_is_no_arguments_however_it_is_written(server, policy, make_task, arguments):
    server.replies = [says([{"type": "text", "text": "a"}, {"text": "b"}], ("c", "submit", arguments))]
    action = act(policy, make_task)
    assert (action.text, action.calls) == ("ab", (ToolCall("c", "submit", {}),))


@pytest.mark.parametrize("arguments", [[1], "[1]", "null"])
def test_arguments_that_are_no_object_are_corrected(server, policy, make_task, arguments):
    server.replies = [says("x", ("c", "submit", arguments))]
    assert "must be a JSON object" in act(policy, make_task).error


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, "This model's maximum context length is 8192 tokens."),
        (400, "prompt is too long: 200001 tokens > 200000 maximum"),
        (400, "the request exceeds the available context size, try increasing it"),
        (400, "Input is too long for requested model."),
        (413, "Request too large: please reduce the length of the messages"),
        (422, "`inputs` tokens + `max_new_tokens` must be <= 4096: input tokens 5000 exceed"),
        (400, "The input token count (1100000) exceeds the maximum number of tokens allowed (1048576)."),
    ],
)
def test_a_conversation_that_is_too_long_ends_for_its_tokens(server, policy, make_task, status, said):
    server.replies = [(status, {"error": {"message": said}})]
    assert act(policy, make_task) is StopReason.MAX_TOKENS


@pytest.mark.parametrize("said", ["invalid tool schema", "max_tokens must be at least 1", "no such model"])
def test_other_refusals_are_no_overflow(server, policy, make_task, said):
    server.replies = [(400, {"error": said})]
    with pytest.raises(PolicyError, match="refused the request"):
        act(policy, make_task)


def test_fields_that_a_server_refuses_are_left_out_from_then_on(server, make_task):
    policy = EndpointPolicy(server.url, "m", max_tokens=9, temperature=0.5, first_wait_s=0.01)
    server.replies = [
        (400, {"error": "Unsupported parameter: 'max_tokens'; use 'max_completion_tokens' instead."}),
        (422, {"detail": "Extra inputs are not permitted: seed"}),
        EDIT,
        EDIT,
        (400, {"error": "temperature is not supported with this model"}),
    ]
    act(policy, make_task)
    act(policy, make_task)
    for request in server.requests[2:]:
        assert "seed" not in request and "max_tokens" not in request
        assert request["max_completion_tokens"] == 9
    with pytest.raises(PolicyError, match="temperature is not supported"):
        act(policy, make_task)
    policy.close()


def test_several_calls_of_one_answer_are_each_answered(server, policy, make_env, make_task):
    view = ("a", "view", "{}"), ("b", "view", '{"path": "a.py"}')
    server.replies = [says(None, *view), SUBMIT]
    run_episode(make_env([make_task()]), policy, task=make_task(), seed=0)
    assert [m.get("tool_call_id") for m in server.requests[1]["messages"][-2:]] == ["a", "b"]


def test_the_key_is_sent_and_never_shown(server, policy, make_task, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    monkeypatch.setenv("DAYTHREE_API_KEY", "sk-secret")
    with_key = EndpointPolicy(server.url, "m")
    server.replies = [(401, {"error": "the key sk-secret is not known"})]
    with pytest.raises(PolicyError, match="refused the request: HTTP 401") as caught:
        act(with_key, make_task)
    assert server.headers == [("/v1/chat/completions", "Bearer sk-secret")]
    assert "sk-secret" not in str(caught.value)
    assert len(server.requests) == 1, "a refusal is not tried again"
    with_key.close()


@pytest.mark.parametrize(
    "failure",
    [(429, "slow down", ("Retry-After", "0")), (500, "oops"), (503, "loading"), "hang up"],
    ids=["429", "500", "503", "hang up"],
)
def test_passing_failures_are_tried_again(server, policy, make_task, failure):
    server.replies = [failure, failure, EDIT]
    assert act(policy, make_task).calls[0].name == "edit"
    assert len(server.requests) == 3


def test_a_server_that_asks_to_wait_is_waited_for(server, policy, make_task):
    server.replies = [(429, "slow down", ("Retry-After", "1")), EDIT]
    started = time.monotonic()
    act(policy, make_task)
    assert time.monotonic() - started >= 1.0


def test_failures_that_do_not_pass_are_a_policy_error_in_one_line(server, policy, make_task):
    server.replies = [(500, "<html>\n<h1>oops</h1>\n" + "x" * 5_000)] * 6
    with pytest.raises(PolicyError, match="keeps failing: HTTP 500 <html> <h1>oops") as caught:
        act(policy, make_task)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    assert len(server.requests) == 6


def test_no_server_at_all_is_a_policy_error(make_task):
    policy = EndpointPolicy("http://127.0.0.1:1/v1", "m", attempts=2, first_wait_s=0.01)
    with pytest.raises(PolicyError, match="keeps failing: ConnectError"):
        act(policy, make_task)
    policy.close()


def test_a_server_that_fails_until_the_deadline_is_unscored_not_out_of_time(
    server, policy, make_env, make_task
):
    server.replies = [(503, "loading")] * 99
    policy.attempts = 99
    task = make_task(limits=Limits(episode_s=0.3))
    trajectory = run_episode(make_env([task]), policy, task=task, seed=0)
    assert (trajectory.stop, trajectory.reward) == (StopReason.INFRA, None)
    assert "503" in trajectory.error


@pytest.mark.parametrize(
    ("sent", "stop"),
    [
        (b"", StopReason.INFRA),
        (b"HTTP/1.1 200 OK\r\n", StopReason.INFRA),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", StopReason.INFRA),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n|1\r\n\n\r\n", StopReason.INFRA),
        (b"HTTP/1.1 200 OK\r\n|X-Wait: 1\r\n", StopReason.INFRA),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{"choices"', StopReason.TIME),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n|1\r\n{\r\n", StopReason.TIME),
    ],
    ids=["no byte", "a line", "headers", "empty lines", "endless headers", "half an answer", "drops"],
)
def test_silence_until_the_deadline_is_the_servers_and_half_an_answer_is_the_models(
    make_env, make_task, sent: bytes, stop: StopReason
):
    """What comes after a bar is sent again and again, faster than any read would time out."""
    task = make_task(limits=Limits(episode_s=0.6))
    with dripping(sent) as url:
        policy = EndpointPolicy(url, "m", first_wait_s=0.01)
        started = time.monotonic()
        trajectory = run_episode(make_env([task]), policy, task=task, seed=0)
        policy.close()
    assert time.monotonic() - started < 4
    assert (trajectory.stop, trajectory.reward) == (stop, 0.0 if stop is StopReason.TIME else None)


@contextmanager
def dripping(sent: bytes):
    """A server that sends what stands before a bar, and then what stands after it every 50 ms."""
    first, _, again = sent.partition(b"|")
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.05)

        def serve(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                connection.sendall(first)
                while not over.wait(0.05):
                    connection.sendall(again)

        def accept() -> None:
            while not over.is_set():
                with suppress(TimeoutError):
                    threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        finally:
            over.set()
            thread.join()


ODD = [
    b"\x1f\x8b no gzip",
    b'{"choices": ' + b"[" * 100_000,
    b"[1, 2]",
    b"null",
    b'{"choices": [{"message": {"content": 5}}]}',
    b'{"choices": [{"message": {"tool_calls": [{"function": {"name": {}}}]}}]}',
    b"\xff\xfe",
    b"",
]


@pytest.mark.parametrize("body", ODD, ids=range(len(ODD)))
def test_an_odd_answer_costs_its_episode_at_most(make_env, make_task, body: bytes):
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n" if body[:1] == b"\x1f" else b"HTTP/1.1 200 OK\r\n"
    with dripping(head + b"Content-Length: %d\r\n\r\n" % len(body) + body) as url:
        policy = EndpointPolicy(url, "m", first_wait_s=0.01, attempts=2)
        trajectory = run_episode(make_env([make_task()]), policy, task=make_task(), seed=0)
        policy.close()
    assert (trajectory.stop, trajectory.reward) == (StopReason.INFRA, None)
    assert trajectory.error.startswith("PolicyError: ") and "\n" not in trajectory.error


def test_halves_of_surrogate_pairs_are_replaced_and_can_be_stored(
    server, policy, make_env, make_task, tmp_path
):
    broken = says("half \ud83d of", ("i\ud800", "vie\ud800w", '{"path": "a.py"}'))
    server.replies = [broken, says("\udfff", ("b", "view", '{"path": "\\ud800"}')), SUBMIT]
    trajectory = run_episode(make_env([make_task()]), policy, task=make_task(), seed=0)
    assert trajectory.stop is StopReason.SUBMITTED
    assert trajectory.turns[0].action.text == "half ? of"
    assert "surrogate" in trajectory.turns[1].action.error
    with TrajectoryStore(tmp_path) as store:
        store.append(trajectory)
    (stored,) = TrajectoryStore(tmp_path).read()
    assert stored == trajectory


def test_every_turn_has_a_seed_of_its_own(server, policy, make_env, make_task):
    server.replies = [EDIT, EDIT, SUBMIT] * 2
    for _ in range(2):
        run_episode(make_env([make_task()]), policy, task=make_task(), seed=5)
    seeds = [request["seed"] for request in server.requests]
    assert len(set(seeds[:3])) == 3 and seeds[:3] == seeds[3:]


@pytest.mark.parametrize("key", ["sk-secret\n", "  sk-secret\r\n", "sk-secret"])
def test_white_space_around_the_key_is_no_part_of_it(server, make_task, monkeypatch, key: str):
    monkeypatch.setenv("DAYTHREE_API_KEY", key)
    with_key = EndpointPolicy(server.url, "m")
    server.replies = [EDIT]
    act(with_key, make_task)
    assert server.headers == [("/v1/chat/completions", "Bearer sk-secret")]
    with_key.close()


@pytest.mark.parametrize("key", ["sk-sécret", "sk secret", "sk\nsecret", "\u200bsk-secret"])
def test_a_key_that_no_header_holds_is_refused_without_being_shown(monkeypatch, key: str):
    monkeypatch.setenv("DAYTHREE_API_KEY", key)
    with pytest.raises(PolicyError, match="the API key in DAYTHREE_API_KEY holds characters") as refused:
        EndpointPolicy("http://127.0.0.1:1/v1", "m")
    assert "cret" not in str(refused.value)


def test_one_request_is_bounded_too(server, policy, make_task):
    server.replies, server.wait_s, policy.request_s, policy.attempts = [EDIT] * 2, 0.5, 0.1, 2
    with pytest.raises(PolicyError, match=r"no answer within 0\.1 s"):
        act(policy, make_task)


def test_a_conversation_that_is_too_long_stops(server, policy, make_task):
    text = "This model's maximum context length is 4096 tokens."
    server.replies = [(400, {"error": {"message": text}})]
    assert act(policy, make_task) is StopReason.MAX_TOKENS


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (says("I am done."), "Your answer has no tool call; every answer needs one."),
        (says("So I", finish="length"), "Your answer was cut off. Your answer has no tool call; "),
        (says("", ("c", "view", '{"path": "a')), "The arguments are not valid JSON: "),
        (says("", ("c", "view", "[1]")), "The arguments must be a JSON object."),
        (says("", ("c", "view", '{"a": "\\ud800"}')), "The arguments contain an invalid Unicode escape"),
    ],
)
def test_what_is_no_call_is_corrected_and_kept_as_text(server, policy, make_task, reply, error):
    server.replies = [reply, EDIT]
    session = policy.start(make_task(), (), Observation("x"), seed=0)
    action = session.act(deadline=forever())
    assert action.calls == () and action.error.startswith(error)
    session.observe([Observation(action.error, is_error=True)])
    assert session.act(deadline=forever()).calls
    asked, corrected = server.requests[1]["messages"][-2:]
    assert asked["role"] == "assistant" and "tool_calls" not in asked
    assert corrected == {"role": "user", "content": action.error}


def test_arguments_that_come_as_an_object_are_taken(server, policy, make_task):
    server.replies = [says(None, (None, "view", {"path": "a.py"}))]
    assert act(policy, make_task).calls == (ToolCall("call_1_1", "view", {"path": "a.py"}),)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ((200, "<html>welcome</html>"), "did not answer in JSON; does the URL end in /v1"),
        ((200, {"choices": []}), "not a chat completion"),
        ((200, {"choices": [{"message": {"content": 7}}]}), "not a chat completion"),
        ((200, []), "not a chat completion"),
        ((404, "not found"), "refused the request: HTTP 404 not found"),
    ],
)
def test_an_answer_that_is_none_is_a_policy_error(server, policy, make_task, reply, reason):
    server.replies = [reply]
    with pytest.raises(PolicyError, match=reason):
        act(policy, make_task)


def test_temperature_and_length_are_sent_when_they_are_set(server, make_task):
    policy = EndpointPolicy(server.url, "m", temperature=0.0, max_tokens=99)
    server.replies = [EDIT]
    act(policy, make_task)
    assert (server.requests[0]["temperature"], server.requests[0]["max_tokens"]) == (0.0, 99)
    policy.close()
