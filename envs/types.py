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
    """Limits of one episode. Times in seconds."""

    max_turns: int = 30
    """Tool calls until the episode is ended and graded."""
    command_s: float = 60.0
    """Deadline of one `shell` command."""
    test_s: float = 120.0
    """Deadline of one run of the `test` tool, and of one test run in grading."""
    episode_s: float = 1800.0
    """Wall time of the episode, without grading."""
    observation_chars: int = 8_000
    """Longer observations are cut in the middle, with a pointer to the rest."""


@dataclass(frozen=True)
class Task:
    """One repository state, one instruction, and hidden tests that prove the work. A row of `tasks.jsonl`.

    Test ids are relative to the tree: `tests/test_wc.py::TestWidth::test_wide[1]`.
    """

    id: str
    set: str
    split: str
    """`train` or `heldout`."""
    environment: str
    """Name of the environment in `taskset.toml`: image and test command."""
    workdir: str
    instruction: str
    source_digest: str
    """Digest (`envs.tasksets.trees.digest`) of the stored tree that `base_patch` applies to."""
    base_patch: str
    """Unified diff from the stored tree to the base tree; empty when they are equal."""
    reference_patch: str
    """Unified diff that solves the task. Never enters a sandbox the policy uses."""
    base_digest: str
    """Digest of the base tree the policy sees."""
    tests_digest: str
    """Digest of the stored tree whose tests and test configuration decide the verdict."""
    fail_to_pass: tuple[str, ...]
    pass_to_pass: tuple[str, ...]
    hidden_tests: tuple[str, ...] = ()
    """The subset of `fail_to_pass` that the policy's tree does not contain."""
    test_files: tuple[str, ...] = ()
    """Files that are run for a verdict, hidden tests included."""
    past: int = 0
    """Number of rows of `prs.jsonl`, which is in merge order, before this task's base."""
    first_pr: int = 0
    """The first of those rows that is of this task's repository, in a set of several repositories."""
    cutoff: str = ""
    """ISO 8601 time of the base; comments from then on are not shown. Empty: no limit."""
    judges: tuple[str, ...] = ()
    """Files of the tree, beyond those that are protected by name, that only the tests import or read:
    helpers, expected values, samples. Grading lays them over a submission as it does the tests."""
    withheld: tuple[str, ...] = ()
    """Keys of past changes that mention the fix; the `prs` tool hides them."""
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
        fields = asdict(self)
        for name in ("first_pr", "judges"):  # sets without them keep the hashes from before these fields
            if not fields[name]:
                del fields[name]
        text = json.dumps(fields, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class ToolCall:
    """A tool call of the policy, unchecked: `ToolCall("1", "view", {"path": "."})`."""

    id: str
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Observation:
    """The exact text that the policy sees after a call."""

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
    """Results of the hidden tests by test id, decided outside the policy's reach.

    Verdict(resolved=False, passed=("tests/test_a.py::test_x",), failed=("tests/test_a.py::test_y",))
    """

    resolved: bool
    passed: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    """Expected ids with no result, or with several."""
    tampered: tuple[str, ...] = ()
    """Attempts on the tests or their configuration, one line each."""
    log: str = ""
    """For people; never evidence."""
    duration_s: float = 0.0
    layers: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Check of `envs.grading.checks` -> its finding (`docs/reward.md`). Empty in older records."""
    remembered: bool = field(default=False, compare=False)
    """Whether no test ran for this verdict: an equal submission had been graded (`envs.grading.memory`)."""

    def __post_init__(self) -> None:
        assert not (self.resolved and (self.failed or self.missing or self.tampered)), (
            "a resolved verdict has nothing failed, missing or tampered"
        )

    @property
    def reward(self) -> float:
        """1.0 if every listed test passed and nothing was tampered with, else 0.0."""
        return 1.0 if self.resolved else 0.0
