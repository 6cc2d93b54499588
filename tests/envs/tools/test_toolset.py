"""Tools and rewards of one's own in an environment, and what the default ones are."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import gymnasium
import pytest

from envs import ENV_ID
from envs.coding import CodingEnv
from envs.grading.reward import RewardError
from envs.tasksets.taskset import TaskSet
from envs.tools.base import ToolContext, ToolError, path_in_tree, read_text, tool
from envs.tools.toolset import Toolset, ToolsetError, tool_specs
from envs.types import StopReason, ToolCall, Verdict
from sandboxes.fake import FakeBackend
from sandboxes.names import UnknownNameError

GOLDEN = "67975cceb70efde333be77586f98f26053ebe6b6c818b6d45e42935ce53edfcd"
"""SHA-256 of the default tools as JSON: policies were trained on these very words."""


@tool
class CountWords:
    """Count the words of a file."""

    path: str

    def run(self, at: ToolContext) -> str:
        if self.path == "":
            raise ToolError("name a file")
        return f"{len(read_text(at.sandbox, path_in_tree(at.task, self.path)).split())} words"


@tool
class GiveUp:
    """End the episode."""

    ends_episode = True

    def run(self, at: ToolContext) -> str:
        return f"gave up on {at.task.id}"


@tool
class Broken:
    """Divide by zero, or return a number."""

    number: bool = False

    def run(self, at: ToolContext) -> str:
        return 1 if self.number else str(1 // 0)  # pyright: ignore[reportReturnType]


@pytest.fixture
def env(calculator: TaskSet) -> Iterator[CodingEnv]:
    with CodingEnv([calculator], tools=["view", CountWords, Broken, GiveUp], backend=FakeBackend()) as env:
        env.reset(seed=0)
        yield env


def test_the_default_tools_are_described_in_the_same_bytes_as_ever() -> None:
    text = json.dumps([asdict(spec) for spec in tool_specs()], ensure_ascii=False)
    assert hashlib.sha256(text.encode()).hexdigest() == GOLDEN


def test_a_tool_of_ones_own_is_described_and_called(env: CodingEnv) -> None:
    assert [spec.name for spec in env.tools] == ["view", "count_words", "broken", "give_up"]
    assert env.tools[1].description == "Count the words of a file."
    seen, reward, terminated, truncated, _ = env.step(ToolCall("1", "count_words", {"path": "README.md"}))
    assert (seen.text, reward, terminated, truncated) == ("4 words", 0.0, False, False)
    for arguments in ({"path": ""}, {"path": "none"}, {"colour": "red"}):
        assert env.step(ToolCall("1", "count_words", arguments))[0].is_error
    assert "there is no tool 'shell'" in env.step(ToolCall("1", "shell", {"command": "ls"}))[0].text


@pytest.mark.parametrize(
    ("arguments", "said"), [({}, "ZeroDivisionError"), ({"number": True}, "returned int")]
)
def test_a_defect_in_a_tool_is_a_refusal_with_its_name_and_is_logged(
    env: CodingEnv, arguments: dict[str, Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    seen, reward, terminated, truncated, _ = env.step(ToolCall("1", "broken", arguments))
    assert seen.is_error and re.match(f"the tool 'broken' broke: .*{said}", seen.text)
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert "Traceback" in caplog.text and said in caplog.text


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\x00", "🙂" * 3, "9" * 5000])
@pytest.mark.parametrize("tool", ["view", "edit", "search", "prs", "shell", "test"])
def test_odd_text_in_any_argument_is_an_observation(calculator: TaskSet, tool: str, text: str) -> None:
    with CodingEnv([calculator], backend=FakeBackend()) as env:
        (names,) = (spec.parameters["properties"] for spec in env.tools if spec.name == tool)
        others = {name: value for name, value in {"path": "README.md", "new": "x"}.items() if name in names}
        for name in names:
            for value in (text, [text], {text: text}, f"README.md:{text}"):
                env.reset(seed=0)
                seen, *_ = env.step(ToolCall("1", tool, {**others, name: value}))
                seen.text.encode()


def test_a_tool_says_itself_that_it_ends_the_episode(env: CodingEnv) -> None:
    seen, reward, terminated, _, info = env.step(ToolCall("1", "give_up", {}))
    assert (seen.text, reward, terminated) == ("gave up on calculator-0001", 0.0, True)
    assert info["stop"] is StopReason.SUBMITTED
    assert isinstance(info["verdict"], Verdict)


def test_only_a_call_that_succeeds_ends_the_episode(calculator: TaskSet) -> None:
    with CodingEnv([calculator], tools=["submit"], backend=FakeBackend()) as env:
        env.reset(seed=0)
        assert env.step(ToolCall("1", "submit", {"sure": True}))[2:4] == (False, False)
        assert env.step(ToolCall("1", "submit", {}))[2]


def test_a_tool_is_found_by_module_and_attribute_and_may_have_another_name() -> None:
    assert Toolset.of(["submit", "envs.tools.files:View"]).names == ("submit", "view")
    assert Toolset({"look": CountWords}).specs()[0].name == "look"
    assert copy.deepcopy(Toolset.of([CountWords])) == Toolset.of([CountWords])
    with pytest.raises(UnknownNameError, match="did you mean 'view'"):
        Toolset.of(["vew"])


def test_what_is_no_tool_is_refused_in_one_sentence() -> None:
    @tool
    class Mute:
        def run(self, at: ToolContext) -> str: ...  # pyright: ignore[reportReturnType]

    with pytest.raises(ToolsetError, match="two tools have the name 'view'"):
        Toolset.of(["view", "view"])
    with pytest.raises(ToolsetError, match="'int' is not a dataclass"):
        Toolset.of([int])  # pyright: ignore[reportArgumentType]
    with pytest.raises(ToolsetError, match="'mute' has no docstring"):
        Toolset.of([Mute])


def test_calls_are_drawn_of_the_tools_that_there_are(calculator: TaskSet) -> None:
    def drawn(tools: list[Any]) -> set[str]:
        env = CodingEnv([calculator], tools=tools, backend=FakeBackend())
        env.action_space.seed(0)
        return {env.action_space.sample().name for _ in range(20)}

    assert drawn(["view", CountWords]) == {"view"}
    assert drawn([CountWords, GiveUp]) == {"give_up"}
    with pytest.raises(ValueError, match="needs arguments"):
        drawn([CountWords])


def test_gymnasium_passes_tools_and_reward_on(calculator: TaskSet) -> None:
    env = gymnasium.make(
        f"envs:{ENV_ID}",
        tasksets=[calculator],
        tools=["view", GiveUp],
        reward=len_missing,
        backend=FakeBackend(),
    )
    assert [spec.name for spec in env.unwrapped.tools] == ["view", "give_up"]  # pyright: ignore
    env.close()


def len_missing(verdict: Verdict) -> float:
    return -float(len(verdict.missing))


def finished(calculator: TaskSet, reward: Any) -> tuple[float, Verdict]:
    env = CodingEnv([calculator], reward=reward, backend=FakeBackend())
    env.reset(seed=0)
    _, value, _, _, info = env.finish(StopReason.MAX_TOKENS)
    return value, info["verdict"]


def test_a_reward_of_ones_own_is_the_steps_and_the_verdict_stays_the_law(calculator: TaskSet) -> None:
    value, verdict = finished(calculator, len_missing)
    assert (value, verdict.reward) == (-3.0, 0.0)
    assert finished(calculator, "outcome")[0] == 0.0
    assert finished(calculator, "envs.grading.reward:outcome")[0] == 0.0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "much", None])
def test_a_reward_that_is_no_finite_number_is_an_error_that_names_it(calculator: TaskSet, value: Any) -> None:
    def odd(_: Verdict) -> Any:
        return value

    with pytest.raises(RewardError, match=r"odd gave .*no finite number"):
        finished(calculator, odd)


def test_an_unknown_reward_is_refused_before_anything_starts(calculator: TaskSet) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'outcome'"):
        finished(calculator, "outcom")
    with pytest.raises(RewardError, match="no function"):
        finished(calculator, 3)
