"""A small real tokenizer, templates with the habits of those in the wild, and a stand-in environment."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import settings

from envs.tools.base import ToolSpec
from envs.types import Observation, StopReason, Task, Verdict
from sandboxes.base import SandboxLost

# A busy machine is no failure of the code.
settings.register_profile("daythree", deadline=None)
settings.load_profile("daythree")

CHATML = """
{%- if tools %}{{ '<|im_start|>system\n' }}
{%- if messages[0].role == 'system' %}{{ messages[0].content + '\n' }}{% endif %}
{{- '<tools>' }}{% for tool in tools %}{{ '\n' + (tool | tojson) }}{% endfor %}{{ '\n</tools><|im_end|>\n' }}
{%- elif messages[0].role == 'system' %}
{{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}{% endif %}
{%- for message in messages %}
{%- if message.role == 'user' %}{{ '<|im_start|>user\n' + message.content + '<|im_end|>\n' }}
{%- elif message.role == 'assistant' %}{{ '<|im_start|>assistant\n' + message.content }}
{%- for call in message.tool_calls or [] %}
{{- '\n<tool_call>\n' + (call.function | tojson) + '\n</tool_call>' }}{% endfor %}{{ '<|im_end|>\n' }}
{%- elif message.role == 'tool' %}
{%- if messages[loop.index0 - 1].role != 'tool' %}{{ '<|im_start|>user' }}{% endif %}
{{- '\n<tool_response>\n' + message.content + '\n</tool_response>' }}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{ '<|im_end|>\n' }}{% endif %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""

# Drops the reasoning of turns before the last question, writes an empty block into later ones, and lets the
# caller switch reasoning off.
REASONING = CHATML.replace(
    "{{ '<|im_start|>assistant\n' + message.content }}",
    "{{ '<|im_start|>assistant\n' }}{% if '<tool_call>' not in message.content and not loop.first %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}{{ message.content.split('</think>')[-1] }}",
).replace(
    "{{ '<|im_start|>assistant\n' }}{% endif %}",
    "{{ '<|im_start|>assistant\n<think>\n' }}"
    "{% if enable_thinking is false %}{{ '\n</think>\n\n' }}{% endif %}{% endif %}",
)

# One message per tool result, trimmed, under a role of its own.
SEPARATE = """
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\n' + (message.content | trim) + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""

TEMPLATES = {"chatml": CHATML, "reasoning": REASONING, "separate": SEPARATE}


def train_backend():
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    text = ["HAVING HAVE HAV AVING having a tool call", "def view(path): return path", '{"name": "edit"}'] * 9
    backend.train_from_iterator(text, trainer)
    backend.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    names = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"]
    backend.add_tokens([AddedToken(name, normalized=False) for name in names])
    return backend


@pytest.fixture(scope="session")
def make_tokenizer():
    """Returns `make(template_name_or_text)`, a transformers fast tokenizer."""
    pytest.importorskip("transformers", reason="a chat codec needs the train extra")
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    backend = train_backend().to_str()

    def make(template: str = "chatml"):
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(backend), eos_token="<|im_end|>", pad_token="<|endoftext|>"
        )
        tokenizer.chat_template = TEMPLATES.get(template, template)
        return tokenizer

    return make


class StandInEnv:
    """A repository of one file, `a.py`, which should hold `wanted`. As short as the real one is not."""

    tools = (
        ToolSpec("view", "Show a file.", {"type": "object", "properties": {"path": {"type": "string"}}}),
        ToolSpec("edit", "Change a file.", {"type": "object", "properties": {"old": {"type": "string"}}}),
        ToolSpec("submit", "Hand in.", {"type": "object", "properties": {}}),
    )

    def __init__(self, tasks, wanted="good\n", fail_on=(), slow_s=0.0):
        self.tasks = {task.id: task for task in tasks}
        self.wanted = wanted
        self.fail_on = fail_on
        self.slow_s = slow_s
        self.closed = threading.Event()
        self.finished = []

    def reset(self, *, seed=None, options=None):
        self._may_fail("reset")
        self.task, self.text, self.calls = self.tasks[options["task"]], "bad\n", 0
        return Observation(self.task.instruction), {}

    def step(self, action):
        self._may_fail(action.name)
        self.calls += 1
        if self.closed.wait(self.slow_s):
            raise SandboxLost("the sandbox was closed")
        if action.name == "submit":
            return self.finish(StopReason.SUBMITTED)
        if action.name == "edit":
            self.text = self.text.replace(action.arguments["old"], action.arguments["new"])
        observation = Observation(self.text, call_id=action.id)
        if self.calls == self.task.limits.max_turns:
            return observation, *self.finish(StopReason.MAX_TURNS)[1:]
        return observation, 0.0, False, False, {}

    def finish(self, reason):
        self._may_fail("finish")
        self.finished.append(reason)
        resolved = self.text == self.wanted
        verdict = Verdict(resolved, passed=("t",)) if resolved else Verdict(False, failed=("t",))
        info = {"stop": reason, "verdict": verdict, "patch": self.text}
        return Observation("over"), verdict.reward, True, False, info

    def close(self):
        self.closed.set()

    def _may_fail(self, where):
        if where in self.fail_on:
            raise SandboxLost(f"the sandbox is gone ({where})")


@pytest.fixture(scope="session")
def make_env():
    """Returns `make(tasks, wanted=…, fail_on=…, slow_s=…)`, a stand-in environment."""
    return StandInEnv


@pytest.fixture(scope="session")
def make_task():
    """Returns `make(id, **fields)`, a task whose reference patch turns `bad` into `good`."""

    def make(task_id="t-1", **fields):
        defaults = {
            "set": "standin",
            "split": "heldout",
            "environment": "default",
            "source_digest": "",
            "tests_digest": "",
            "workdir": "/workspace",
            "instruction": "Make a.py good.",
            "base_patch": "",
            "reference_patch": "--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-bad\n+good\n",
            "base_digest": "",
            "fail_to_pass": ("t",),
            "pass_to_pass": (),
        }
        return Task(id=task_id, **{**defaults, **fields})

    return make


class ChatServer(ThreadingHTTPServer):
    """Answers with prepared replies, in order; keeps what it was asked."""

    daemon_threads = True

    def __init__(self):
        self.replies, self.requests, self.headers, self.wait_s = [], [], [], 0.0
        super().__init__(("127.0.0.1", 0), ChatHandler)

    def handle_error(self, request, client_address):
        """A client that gave up waiting is part of some tests."""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class ChatHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ChatServer

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append(json.loads(body))
        self.server.headers.append((self.path, self.headers.get("Authorization")))
        time.sleep(self.server.wait_s)
        reply = self.server.replies.pop(0)
        if reply == "hang up":
            self.close_connection = True
            return
        status, answer, *headers = reply
        data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format, *args):  # noqa: A002 (the standard library's name)
        pass


@pytest.fixture
def chat_server():
    """A chat endpoint on loopback: give it `replies`, read its `requests`."""
    with ChatServer() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join(5)
