"""All settings of a training run as one tree, read from TOML; `--set a.b=c` overrides a setting.

Settings that would bias log-probabilities (`top_p`, `top_k`, `min_p`, penalties) do not exist: the learner
scores tokens under the full distribution at `policy.temperature`, so sampling must use the same distribution.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from sandboxes import BACKENDS

from .config_complaints import ConfigError, sentence
from .config_edits import make_absolute, override, rename_old
from .config_names import ADVANTAGES, LOSSES, REWARDS, name_in


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise ValueError(sentence)


class Section(BaseModel):
    """A table of the configuration. Immutable; unknown keys are errors."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )


class Tasks(Section):
    """The task sets of training and evaluation."""

    sets: tuple[str, ...] = Field(min_length=1)
    """Folders of task sets."""
    train: Literal["train", "all"] = "train"
    """The split of training tasks. `all` leaves no unseen task, so that evaluation measures memory."""
    heldout: Literal["heldout", "train"] = "heldout"
    """The split of evaluation tasks."""


class Policy(Section):
    """The model that acts and learns, and its sampling."""

    model: str = "tiny"
    """`tiny` (made from `[tiny]`), `practice` (of the package), a folder, or a model's name on the hub."""
    dialect: Literal["hermes", "qwen3-coder"] = "hermes"
    """The format of tool calls."""
    temperature: float = Field(default=1.0, gt=0)
    """Temperature of sampling and of scoring."""
    max_turn_tokens: int = Field(default=1024, ge=1)
    """Most tokens sampled per action."""
    context_tokens: int = Field(default=8192, ge=16)
    """Most tokens of an episode, observations included; the engine's context length."""


class Tiny(Section):
    """Size of the small Qwen3-architecture model with random weights."""

    hidden: int = Field(default=160, ge=8)
    layers: int = Field(default=4, ge=1)
    heads: int = Field(default=5, ge=1)
    kv_heads: int = Field(default=5, ge=1)
    head_dim: int = Field(default=32, ge=8, multiple_of=8)
    intermediate: int = Field(default=448, ge=8)
    vocab_size: int = Field(default=2048, ge=300)
    """Tokens of the byte-level tokenizer: 256 bytes, the special tokens, and merges."""
    tie_embeddings: bool = True

    @model_validator(mode="after")
    def _check(self) -> Self:
        _require(self.heads % self.kv_heads == 0, "heads must be a multiple of kv_heads")
        return self


class Engine(Section):
    """The inference engine. The options mean the same on every device."""

    max_num_seqs: int = Field(default=64, ge=1)
    """Most requests that run at once; further requests wait."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of weights and activations: bfloat16 for GPUs; on a CPU, a tiny model is no slower in float32."""
    kv_cache_gib: float = Field(default=1.0, gt=0)
    """Memory for keys and values on a CPU. A GPU uses `gpu_memory_utilization` instead."""
    gpu_memory_utilization: float = Field(default=0.85, gt=0, le=1)
    tensor_parallel: int = Field(default=1, ge=1)
    """GPUs that share one copy of the model."""
    block_size: Literal[16, 32, 64, 128] = 32
    """Tokens per cache block; prefixes are shared in whole blocks."""
    enforce_eager: bool = True
    """Run without compilation, for a faster start; set `false` for a large model on a GPU."""
    cpu_threads: int = Field(default=1, ge=1)
    """Threads of the engine on a CPU."""
    seeded: bool = False
    """Give every request its episode's seed: repeatable if batches repeat, but slower for short turns."""
    weight_transfer: Literal["auto", "file"] = "auto"
    """Transfer of new weights to the engine. `auto` is `file`: a file in shared memory."""
    weight_folder: str = ""
    """Folder of that file. Empty: shared memory if there is room, else the temporary folder."""
    start_s: float = Field(default=300.0, gt=0)
    """Deadline in seconds for the engine's start, and for each transfer of weights."""


class Search(Section):
    """The ranking of the `search` tool by meaning."""

    embedder: str = ""
    """`model:FOLDER` or `endpoint:URL#MODEL` (OpenAI-compatible embeddings); empty: rank by words only."""


class Sandbox(Section):
    """The sandboxes and processes in which episodes run."""

    env: str = "coding"
    """The environment: `coding`, or `module:attribute` of a `trainer.cluster.worker.EnvFactory`."""
    backend: Annotated[str, name_in(BACKENDS, "sandbox backend")] = "auto"
    """`auto`, `docker`, `bubblewrap`, `fake`, or `module:attribute` (`sandboxes.connect`)."""
    verdict_memory: bool = True
    """Grade equal submissions of a task once per process; a share is graded again as a check."""
    concurrency: int = Field(default=8, ge=1)
    """Episodes at once, if the training process plays the episodes."""
    placement: Literal["auto", "driver", "cluster"] = "auto"
    """`driver`: the training process plays episodes. `cluster`: an actor on each node with the Ray resource
    `sandboxes`, whose amount is the episodes at once. `auto`: `cluster` if another node has the resource."""
    start_s: float = Field(default=120.0, gt=0)
    """Deadline in seconds for a node's start, and for a run's wait while no node is ready."""


class Learner(Section):
    """Settings of all updates, in SFT and RL."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the computation; master weights and the optimiser's state are always float32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    micro_batch_tokens: int = Field(default=16384, ge=16)
    """Tokens in one forward and backward. Affects memory and speed, never the gradient."""
    compile: bool | Literal["auto"] = "auto"
    """Compile the model's body; a CPU needs a C++ compiler. `auto`: on a CPU, for long runs."""
    packing: bool | Literal["auto"] = "auto"
    """Lay samples end to end without padding. `auto`: on a CPU, for models with full attention."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward: slower, but longer episodes fit into memory."""
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    cpu_threads: int = Field(default=2, ge=1)
    """Threads of the learner on a CPU."""
    step_s: float = Field(default=1800.0, gt=0)
    """Deadline in seconds for an answer of the learner, such as one update."""


class Sft(Section):
    """Supervised fine-tuning before RL, on `episodes`, `trajectories` or `lessons`; off if none is set."""

    episodes: int = Field(default=0, ge=0)
    """Scripted episodes to collect."""
    trajectories: str = ""
    """Folder of trajectories to learn from, instead of collected episodes."""
    minutes: float = Field(default=10.0, gt=0)
    """Wall-clock limit in minutes."""
    epochs: float = Field(default=1.0, gt=0)
    learning_rate: float = Field(default=1e-5, gt=0)
    """Safe for a pretrained model; a policy with random weights needs about a hundred times as much."""
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps over which the learning rate rises."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """`muon`: Muon for matrices inside the layers, AdamW for the rest."""
    muon_learning_rate: float = Field(default=0.02, gt=0)
    batch_tokens: int = Field(default=8192, ge=16)
    """Tokens per update, prompt and observations included."""
    lessons: int = Field(default=0, ge=0)
    """Tokens of lessons to learn from (`trainer.data.lessons`), for a policy with random weights."""
    observations: float = Field(default=0.2, ge=0, le=1)
    """Weight of tokens that the policy only reads, in the first 70 % of the lessons: teaches copying."""
    drills: float = Field(default=0.6, ge=0, le=1)
    """Share of pure copying drills in the first half of the lessons: copying limits a small model first."""


class PolicyGradient(Section):
    """`[rl.loss_settings]` of `rl.loss = "policy_gradient"`."""

    clip_low: float = Field(default=0.2, gt=0, lt=1)
    clip_high: float = Field(default=0.28, gt=0)
    truncate_ratio: float = Field(default=2.0, gt=1)
    """Cap on the importance weight of a token: the learner's probability over the engine's."""
    dual_clip: float = Field(default=3.0, gt=1)
    """Bound on the ratio of tokens with negative advantage, in updates after the first of a step."""


class Rl(Section):
    """Reinforcement learning on the outcome of the tests."""

    steps: int = Field(default=100, ge=0)
    minutes: float = Field(default=0.0, ge=0)
    """Limit in minutes on sampling and updates; 0: no limit. The learning rate follows `steps` alone."""
    tasks_per_step: int = Field(default=8, ge=1)
    samples_per_task: int = Field(default=8, ge=2)
    """Episodes in a group, whose rewards are compared with each other."""
    learning_rate: float = Field(default=1e-6, gt=0)
    warmup_steps: int = Field(default=0, ge=0)
    final_learning_rate: float = Field(default=1.0, ge=0, le=1)
    """Share of `learning_rate` at the last step; the rate falls linearly."""
    minibatches: int = Field(default=1, ge=1)
    """Updates per step. With 1, every update is on-policy and clipping has no effect."""
    advantage: Annotated[str, name_in(ADVANTAGES, "advantage")] = "mean"
    """The baseline of rewards: the group's mean (`mean`, Dr. GRPO), mean and standard deviation (`mean_std`,
    GRPO), or the mean of the group's other episodes (`leave_one_out`, RLOO); or `module:attribute`."""
    advantage_settings: dict[str, Any] = {}
    """Settings for an advantage that `module:attribute` names."""
    loss: Annotated[str, name_in(LOSSES, "loss")] = "policy_gradient"
    """`policy_gradient`, `nll` (of all episodes, positive or negative), or `module:attribute`."""
    loss_settings: dict[str, Any] = Field(default={}, validate_default=True)
    """Settings of the loss."""
    aggregation: Literal["token_mean", "sequence_mean", "sequence_sum"] = "token_mean"
    """The average over tokens or sequences. `sequence_sum` divides each sum by `policy.context_tokens`."""
    kl: float = Field(default=0.0, ge=0)
    """Weight of the KL divergence from the policy at the start of RL."""
    entropy: float = Field(default=0.0, ge=0)
    max_format_errors: int = Field(default=3, ge=1)
    """Unreadable actions in a row that end an episode, also in evaluations."""
    min_scored: int = Field(default=2, ge=2)
    """Fewest scored episodes (not lost to failing sandboxes) of a group that counts."""
    max_unscored: float = Field(default=0.5, ge=0, le=1)
    """Largest share of a step's episodes lost to failing sandboxes before training stops."""
    refill: int = Field(default=0, ge=0)
    """Dynamic sampling (DAPO, arXiv 2503.14476): extra groups per step to replace zero-variance ones."""

    @field_validator("loss_settings")
    @classmethod
    def _complete(cls, given: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        """Validate the settings of this project's losses and add their defaults."""
        loss = info.data.get("loss")
        _require(loss != "nll" or not given, 'the loss "nll" takes no settings')
        if loss != "policy_gradient":
            return given
        try:
            return PolicyGradient.model_validate(given, strict=True).model_dump()
        except ValidationError as error:
            lines = [sentence(dict(p), given, PolicyGradient) for p in error.errors(include_url=False)]
            raise ValueError("; ".join(lines)) from None


class Reward(Section):
    """The reward of training (`trainer/algorithms/rewards.py`). The outcome is always logged too."""

    mode: Annotated[str, name_in(REWARDS, "reward")] = "outcome"
    """`outcome`; `module:attribute`; or a control experiment's reward, which does not depend on the work:
    `random`, `format`, `shuffled`, `constant`."""
    settings: dict[str, Any] = {}
    """Settings for a reward that `module:attribute` names."""
    chance: float = Field(default=0.5, gt=0, lt=1)
    """Probability of a reward of 1 in the mode `random`."""
    partial: float = Field(default=0.0, ge=0, le=1)
    """Weight of the share of listed tests that passed."""
    length: float = Field(default=0.0, ge=0, le=1)
    """Penalty on solved episodes, times their share of sampled tokens in `policy.context_tokens`."""
    format: float = Field(default=0.0, ge=0, le=1)
    """Reward of a submitted episode without unreadable actions."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        shaped = [name for name in ("partial", "length", "format") if getattr(self, name)]
        _require(
            self.mode == "outcome" or not shaped,
            f'mode = "{self.mode}" is a control or your own and takes no {" or ".join(shaped)} beside it',
        )
        _require(
            self.length + self.format < 1,
            "length and format together must stay below 1, or a failed episode could earn as much as a "
            "solved one",
        )
        return self


class Eval(Section):
    """Evaluation on held-out tasks during training."""

    every: int = Field(default=10, ge=0)
    """Steps between evaluations; 0 evaluates only before and after."""
    samples: int = Field(default=1, ge=1)
    """Episodes per task."""
    untrained: bool = False
    """Also evaluate before SFT."""
    max_tasks: int = Field(default=0, ge=0)
    """Most tasks of an evaluation, always the same tasks; 0: all tasks."""


class Checkpoint(Section):
    """The checkpoints that a run can be resumed from."""

    every: int = Field(default=10, ge=1)
    keep: int = Field(default=2, ge=1)
    """Number of newest checkpoints to keep; older checkpoints are removed."""


class Config(Section):
    """The whole configuration. Only `tasks.sets` has no default."""

    seed: int = Field(default=0, ge=0)
    tasks: Tasks
    policy: Policy = Policy()
    tiny: Tiny = Tiny()
    engine: Engine = Engine()
    search: Search = Search()
    sandbox: Sandbox = Sandbox()
    learner: Learner = Learner()
    sft: Sft = Sft()
    rl: Rl = Rl()
    reward: Reward = Reward()
    eval: Eval = Eval()
    checkpoint: Checkpoint = Checkpoint()

    @model_validator(mode="after")
    def _check(self) -> Self:
        p, rl = self.policy, self.rl
        _require(
            p.max_turn_tokens < p.context_tokens,
            f"policy.max_turn_tokens ({p.max_turn_tokens}) must be below policy.context_tokens "
            f"({p.context_tokens}), or no action fits beside the prompt",
        )
        _require(
            self.learner.micro_batch_tokens >= p.context_tokens,
            f"learner.micro_batch_tokens ({self.learner.micro_batch_tokens}) must hold one whole episode: "
            f"raise it to policy.context_tokens ({p.context_tokens}) at least",
        )
        _require(
            rl.min_scored <= rl.samples_per_task,
            f"rl.min_scored ({rl.min_scored}) cannot exceed rl.samples_per_task ({rl.samples_per_task})",
        )
        _require(
            rl.minibatches <= rl.tasks_per_step * rl.samples_per_task,
            f"rl.minibatches ({rl.minibatches}) cannot exceed the {rl.tasks_per_step * rl.samples_per_task} "
            "episodes of a step (rl.tasks_per_step times rl.samples_per_task)",
        )
        late = f"rl.warmup_steps ({rl.warmup_steps}) cannot exceed rl.steps ({rl.steps})"
        _require(rl.warmup_steps <= rl.steps, late)
        _require(
            sum(map(bool, (self.sft.episodes, self.sft.trajectories, self.sft.lessons))) <= 1,
            "sft.episodes, sft.trajectories and sft.lessons exclude each other: choose one to learn from",
        )
        return self


def load(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a TOML file and apply `a.b=c` overrides, each value written as in TOML (bare words are text).

    Relative paths in `tasks.sets`, `policy.model` and the like start at the current directory and are made
    absolute, so that a run can be resumed from anywhere. Raises `ConfigError`.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    rename_old(data)
    for assignment in overrides:
        override(data, assignment)
        rename_old(data)
    make_absolute(data)
    return parse(data)


def parse(data: Mapping[str, Any]) -> Config:
    """Validate a tree of plain values. Raises `ConfigError` with one line per problem."""
    # Through JSON, because strict mode then still takes a list for a tuple, but no text for a number.
    tree = json.loads(json.dumps(data, default=str))
    rename_old(tree)
    try:
        return Config.model_validate_json(json.dumps(tree), strict=True)
    except ValidationError as error:
        lines = [sentence(dict(problem), tree, Config) for problem in error.errors(include_url=False)]
        raise ConfigError("\n".join(lines)) from None


def to_toml(config: Config) -> str:
    """Return all settings as TOML, defaults included; `load` of the text gives an equal configuration."""
    return tomli_w.dumps(config.model_dump(mode="json"))


class TrainError(Exception):
    """Training cannot continue. Takes one sentence."""
