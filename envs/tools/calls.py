"""Make one tool call: check it, run the tool, and turn its outcome into an observation."""

from __future__ import annotations

from sandboxes.base import SandboxError

from ..types import Observation, ToolCall
from .base import Tool, ToolContext, ToolDefect, ToolError
from .text import cut_middle
from .toolset import Toolset


def make_call(toolset: Toolset, call: ToolCall, at: ToolContext) -> tuple[Observation, bool]:
    """Return the call's observation, and whether the call ends the episode.

    A malformed or failing call is an observation. Raises SandboxError, and ToolDefect when a tool's own code
    breaks.
    """
    ends = False
    try:
        tool = toolset.parse(call)
        text, wrong = _run_tool(call.name, tool, at), False
        ends = getattr(tool, "ends_episode", False) is True
    except ToolError as error:
        text, wrong = str(error), True
    except OSError as error:  # the file system's own refusals; a broken sandbox is a SandboxError
        text, wrong = _refusal(error), True
    text = text.encode("utf-8", "replace").decode()
    shown = Observation(text, wrong, call_id=call.id)
    return cut_middle(shown, at.task.limits.observation_chars), ends


def _run_tool(name: str, tool: Tool, at: ToolContext) -> str:
    try:
        text = tool.run(at)
    except (ToolError, OSError, SandboxError):
        raise
    except Exception as error:
        raise ToolDefect(f"the tool {name!r} broke: {type(error).__name__}: {error}") from error
    if not isinstance(text, str):
        raise ToolDefect(f"the tool {name!r} returned {type(text).__name__} and not text")
    return text


def _refusal(error: OSError) -> str:
    reason = (error.strerror or str(error) or type(error).__name__).lower()
    return f"{error.filename}: {reason}" if error.filename else reason
