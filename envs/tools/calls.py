"""Make one tool call: check it, run the tool, and turn its outcome into an observation."""

from __future__ import annotations

import logging

from sandboxes.base import SandboxError

from ..types import Observation, ToolCall
from .base import Tool, ToolContext, ToolError
from .text import cut_middle
from .toolset import Toolset

_log = logging.getLogger(__name__)


def make_call(toolset: Toolset, call: ToolCall, at: ToolContext) -> tuple[Observation, bool]:
    """Return the call's observation, and whether the call ends the episode.

    A malformed or failing call is an observation, and so is a defect of the tool. Raises SandboxError only.
    """
    ends = False
    try:
        tool = toolset.parse(call)
        text, wrong = _run_tool(tool, at), False
        ends = getattr(tool, "ends_episode", False) is True
    except ToolError as error:
        text, wrong = str(error), True
    except OSError as error:  # the file system's own refusals; a broken sandbox is a SandboxError
        text, wrong = _refusal(error), True
    except SandboxError:
        raise
    except Exception as error:  # nothing that a policy writes may end a run
        _log.exception("the tool %r broke", call.name)
        text, wrong = f"the tool {call.name!r} broke: {type(error).__name__}: {error}", True
    text = text.encode("utf-8", "replace").decode()
    shown = Observation(text, wrong, call_id=call.id)
    return cut_middle(shown, at.task.limits.observation_chars), ends


def _run_tool(tool: Tool, at: ToolContext) -> str:
    text = tool.run(at)
    if not isinstance(text, str):
        raise TypeError(f"it returned {type(text).__name__} and not text")
    return text


def _refusal(error: OSError) -> str:
    reason = (error.strerror or str(error) or type(error).__name__).lower()
    return f"{error.filename}: {reason}" if error.filename else reason
