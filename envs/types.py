"""The data types of a coding task: task, tool call, observation, verdict. No models, no tokens.

Frozen dataclasses; `envs.tasksets.taskset` validates them with pydantic's `TypeAdapter` where they are read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


@dataclass(frozen=True)
class Limits:
    """What one episode may use. Times in seconds."""

    max_turns: int = 30
    """Tool calls until the episode is cut off and graded."""
    command_s: float = 60.0
    """One `shell` command."""
    test_s: float = 120.0
    """One run of the `test` tool, and one grading."""
    episode_s: float = 1800.0
    """The episode's wall time, grading not counted."""
    observation_chars: int = 8_000
    """Longer observations are cut in the middle, with a pointer to the rest."""


@dataclass(frozen=True)
class Task:
    """One repository state, one instruction, hidden tests that prove the work."""

    id: str
    set: str
    split: str
    """`train` or `heldout`."""
    environment: str
    """Name of the environment in `taskset.toml`: which image, and how tests run."""
    workdir: str
    instruction: str
    source_digest: str
    """Digest (`envs.tasksets.trees.digest`) of the stored tree that `base_patch` applies to."""
    base_patch: str
    """Unified diff from that tree to the base tree the policy sees; empty when they are the same."""
    reference_patch: str
    """Unified diff that solves the task. Never enters a sandbox the policy uses."""
    base_digest: str
    """Digest of the base tree the policy sees."""
    tests_digest: str
    """Digest of the stored tree whose tests and test configuration decide the verdict."""
    fail_to_pass: tuple[str, ...]
    pass_to_pass: tuple[str, ...]
    hidden_tests: tuple[str, ...] = ()
    """Ids of tests, all in `fail_to_pass`, that the policy's tree does not contain."""
    test_files: tuple[str, ...] = ()
    """Files that are run to get a verdict, hidden tests included."""
    past: int = 0
    """How many rows of `prs.jsonl`, which is in the order of merging, lie before this task's base."""
    cutoff: str = ""
    """ISO 8601, the time of the base; what was said at or after it is not shown. Empty: no limit."""
    withheld: tuple[str, ...] = ()
    """Keys of past changes that speak of the fix; the `prs` tool does not know them."""
    limits: Limits = field(default_factory=Limits)
    traits: dict[str, str | int | float] = field(default_factory=dict, hash=False)
    """How the task was made and how hard it is, for samplers and reports; never shown to the policy."""

    def __post_init__(self) -> None:
        assert self.fail_to_pass, f"task {self.id}: without a failing test nothing can be proven"
        assert self.split in ("train", "heldout"), f"task {self.id}: unknown split {self.split!r}"
        assert set(self.hidden_tests) <= set(self.fail_to_pass), (
            f"task {self.id}: hidden tests must be among fail_to_pass"
        )

    @property
    def hash(self) -> str:
        """SHA-256 over every field; recorded with each trajectory."""
        text = json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class ToolCall:
    """What the policy asked."""

    id: str
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Observation:
    """What the policy saw, exactly."""

    text: str
    is_error: bool = False
    truncated: bool = False
    call_id: str | None = None


class StopReason(StrEnum):
    """Why an episode ended; set once per trajectory."""

    SUBMITTED = "submitted"
    MAX_TURNS = "max_turns"
    MAX_TOKENS = "max_tokens"
    TIME = "time"
    FORMAT = "format"
    INFRA = "infra"


@dataclass(frozen=True)
class Verdict:
    """Results of the hidden tests by test id, decided outside the reach of the policy."""

    resolved: bool
    passed: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    """Expected ids that gave no result, or more than one."""
    tampered: tuple[str, ...] = ()
    """What the policy tried on the tests or their configuration, one line each."""
    log: str = ""
    """For people; never evidence."""
    duration_s: float = 0.0
    layers: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What each check of `envs.grading.checks` found (`docs/reward.md`). Empty in older records."""

    def __post_init__(self) -> None:
        assert not (self.resolved and (self.failed or self.missing or self.tampered)), (
            "a resolved verdict has nothing failed, missing or tampered"
        )

    @property
    def reward(self) -> float:
        """1.0 if every listed test passed and nothing was tampered with, else 0.0."""
        return 1.0 if self.resolved else 0.0
