"""Make a small policy: a Qwen3-architecture model with random weights, and its tokenizer.

The policy is an ordinary model folder for transformers and vLLM, designed for copying code and calling tools
with few tokens:

- the tokenizer is byte-level BPE trained on local text (the task set's sources and pull requests);
- tool calls are in the `qwen3-coder` dialect, and the markup between two values is one token, so that
  `view` of a file costs six tokens besides the path;
- digits and spaces stand alone, so that a piece of code has the same tokens wherever it is shown;
- the chat template is ChatML in its compact form: of the system prompt and the tools' descriptions only the
  tools' names are rendered, since a model this small cannot read prose.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Tiny
from .model import save_model

if TYPE_CHECKING:
    from envs.tools.base import ToolSpec

PAD, END = "<|endoftext|>", "<|im_end|>"
# Whole stretches of the template as single tokens: every turn pays for them.
CONTROL = (
    PAD,
    END,
    "<|im_start|>system\n",
    "<|im_start|>user\n",
    "<|im_start|>assistant\n",
    "<|im_end|>\n<|im_start|>assistant\n",
    "\n<|im_start|>tool\n",
    "\n<|im_start|>user\n",
    "<|im_start|>",
    "<tool_call>",
    "</tool_call>",
)

# ChatML. Observations follow the assistant's own end token, which was sampled.
TEMPLATE = """\
{%- if tools -%}
{{ '<|im_start|>system\\n' }}
{%- for tool in tools %}{{ tool.function.name }}{% if not loop.last %} {% endif %}{% endfor -%}
{{ '<|im_end|>\\n' }}
{%- endif -%}
{%- for message in messages if message.role != 'system' -%}
{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' }}
{%- if not loop.last or add_generation_prompt %}{{ '\\n' }}{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif -%}"""

# Pre-tokens, first match wins: markup of a call; a path; a line break; a word up to its underscore, so that a
# new name of known words has known tokens; a digit; a run of other signs; a run of spaces; what is left.
# Spaces stay alone, unlike in tokenizers for prose: `<` must be the same token in ` < `, where it is seen,
# and as a value, where it is copied to.
_NAME = r"[A-Za-z_][A-Za-z_0-9]*"
_AFTER = rf"(?:\n<parameter={_NAME}>\n|\n</function>\n)"
SPLIT = "|".join(
    [
        rf"\n<function={_NAME}>{_AFTER}?",
        rf"\n</parameter>{_AFTER}",
        r"[\w./-]*\w\.py\b",
        r"\n",
        r"[^\W\d_]+_?",
        r"\d",
        r"[^\s\w]+",
        r" +",
        r"\s",
        r".",
    ]
)


def make_tiny(
    out: Path,
    size: Tiny,
    *,
    text: Iterable[str],
    tools: Sequence[ToolSpec],
    context_tokens: int,
    seed: int = 0,
) -> Path:
    """Write a model folder with random weights and a tokenizer trained on `text`; return `out`.

    Equal arguments give equal bytes. `tools` are the tools that the model will call.
    """
    tokenizer = train_tokenizer(text, tools, vocab_size=size.vocab_size)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.model_max_length = context_tokens
    tokenizer.save_pretrained(out)
    save_model(_make_model(size, tokenizer, context_tokens=context_tokens, seed=seed), out)
    return out


def train_tokenizer(text: Iterable[str], tools: Sequence[ToolSpec], *, vocab_size: int) -> Any:
    """Train a transformers tokenizer with `vocab_size` tokens, or fewer if `text` is short."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    markup = list(call_markup(tools))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merged_size = vocab_size - len(CONTROL) - len(markup)
    assert merged_size > len(alphabet), f"tiny.vocab_size = {vocab_size} leaves no room for text"
    split = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    draft = Tokenizer(models.BPE())
    draft.pre_tokenizer = split  # pyright: ignore[reportAttributeAccessIssue]
    draft.train_from_iterator(
        text,
        trainers.BpeTrainer(
            vocab_size=merged_size, initial_alphabet=alphabet, show_progress=False, max_token_length=64
        ),
    )
    learned = json.loads(draft.to_str())["model"]
    vocabulary: dict[str, int] = {token: number for number, token in enumerate(CONTROL)}
    for token in [*_byte_level(markup), *sorted(learned["vocab"], key=learned["vocab"].__getitem__)]:
        vocabulary.setdefault(token, len(vocabulary))
    merges = [tuple(pair) for pair in learned["merges"]]
    # With `ignore_merges`, a pre-token that is in the vocabulary is one token, merges or not: the markup.
    whole = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True))
    whole.pre_tokenizer = split  # pyright: ignore[reportAttributeAccessIssue]
    whole.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    whole.add_special_tokens(list(CONTROL))
    return PreTrainedTokenizerFast(
        tokenizer_object=whole,
        eos_token=END,
        pad_token=PAD,
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def call_markup(tools: Sequence[ToolSpec]) -> Iterator[str]:
    """Yield each distinct markup between two values in calls of these tools, as long as possible.

    Example: `</parameter>` with the next `<parameter=path>`, and the line breaks around both."""
    found: dict[str, None] = {}
    for tool in tools:
        names = list(tool.parameters.get("properties", {}))
        after = [f"\n<parameter={name}>\n" for name in names]
        for follower in [*after, "\n</function>\n"]:
            found.setdefault(f"\n<function={tool.name}>{follower}")
            found.setdefault(f"\n</parameter>{follower}")
    for piece in found:
        assert re.fullmatch(SPLIT, piece), f"tool or parameter name that the tokenizer cannot hold: {piece!r}"
        yield piece


def _byte_level(texts: Iterable[str]) -> list[str]:
    """Write texts in the alphabet of byte-level BPE, in which every byte is a visible character."""
    from tokenizers import pre_tokenizers

    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return ["".join(piece for piece, _ in level.pre_tokenize_str(text)) for text in texts]


def _make_model(size: Tiny, tokenizer: Any, *, context_tokens: int, seed: int) -> Any:
    import torch
    from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        head_dim=size.head_dim,
        intermediate_size=size.intermediate,
        tie_word_embeddings=size.tie_embeddings,
        max_position_embeddings=context_tokens,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(config)
        _initialise(model, size)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=True
    )
    return model


def _initialise(model: Any, size: Tiny) -> None:
    """Draw matrices with deviation 1/sqrt(hidden), and half of that for outputs to the residual stream.

    The library's 0.02 everywhere is meant for wide models; at width 160, learning is several times slower.
    """
    import torch

    for name, parameter in model.named_parameters():
        if parameter.ndim != 2 or "embed" in name or name.startswith("lm_head"):
            continue
        half = 0.5 if name.endswith(("o_proj.weight", "down_proj.weight")) else 1.0
        torch.nn.init.normal_(parameter, std=half * size.hidden**-0.5)
