"""A small real tokenizer, and templates with the habits of those in the wild."""

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

CHATML = """
{%- if tools %}{{ '<|im_start|>system\n' }}
{%- if messages[0].role == 'system' %}{{ messages[0].content + '\n' }}{% endif %}
{{- '<tools>' }}{% for tool in tools %}{{ '\n' + (tool | tojson) }}{% endfor %}{{ '\n</tools><|im_end|>\n' }}
{%- elif messages[0].role == 'system' %}{{ '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}{% endif %}
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


def train_backend() -> Tokenizer:
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
    from transformers import PreTrainedTokenizerFast

    backend = train_backend().to_str()

    def make(template: str = "chatml"):
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(backend), eos_token="<|im_end|>", pad_token="<|endoftext|>"
        )
        tokenizer.chat_template = TEMPLATES.get(template, template)
        return tokenizer

    return make
