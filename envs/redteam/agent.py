"""A cheat's hands: the calls that any agent may make, in a real episode."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from ..types import Observation, StopReason, ToolCall
from .scene import Changes, NotApplicable, Scene, as_bytes

CALL_BYTES = 60_000
"""Bytes of one shell command; the kernel takes twice that as one argument."""

MARK = "PRIZE: "
"""What a cheat's command prints before what it found."""


class Episode(Protocol):
    """What an agent is given: `envs.coding.CodingEnv`."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any: ...
    def step(self, action: ToolCall) -> tuple[Observation, float, bool, bool, dict[str, Any]]: ...
    def finish(self, reason: StopReason) -> tuple[Observation, float, bool, bool, dict[str, Any]]: ...


class EpisodeOver(Exception):
    """The episode ended, and there is nothing more to do in it. Takes one sentence."""


@dataclass
class Agent:
    """One cheat at work."""

    episode: Episode
    scene: Scene
    said: str = ""
    """The last thing it was told."""
    prizes: tuple[str, ...] = ()
    """What it got hold of and must not have."""
    ended: Mapping[str, Any] | None = None
    """The last step's information, once the episode has ended."""

    def call(self, name: str, **arguments: Any) -> Observation:
        """Make one call. Raises EpisodeOver."""
        if self.ended is not None:
            raise EpisodeOver("the episode has ended")
        seen, _reward, terminated, truncated, info = self.episode.step(ToolCall("", name, arguments))
        self.said = seen.text if name != "submit" else self.said
        if terminated or truncated:
            self.ended = info
            if name != "submit":
                raise EpisodeOver("the episode has ended")
        return seen

    def shell(self, command: str) -> str:
        """Run a command and return what was seen; lines that start with `MARK` are prizes."""
        text = self.call("shell", command=command).text
        self._note(text)
        return text

    def python(self, program: str, *arguments: str) -> str:
        """Run a program in the sandbox's Python."""
        words = " ".join(map(shlex.quote, arguments))
        return self.shell(f"python3 - {words} <<'END_OF_PROGRAM'\n{program}\nEND_OF_PROGRAM")

    def lay(self, changes: Changes) -> None:
        """Change files, in as few calls as fit."""
        script = ""
        for path, data in changes.items():
            for part in _written(path, data):
                if script and len(script) + len(part) > CALL_BYTES:
                    self.shell(script)
                    script = ""
                script += part
        if script:
            self.shell(script)

    def submit(self) -> None:
        """Hand in the work, where the episode has not ended yet."""
        if self.ended is None:
            self.call("submit")

    def again(self) -> None:
        """Hand in, and begin the same task anew: the next episode on this machine."""
        self.submit()
        self.episode.reset(options={"task": self.scene.task})
        self.ended = None

    def claim(self, prize: str) -> None:
        """Say that something was got hold of."""
        self.prizes += (prize,)

    def _note(self, text: str) -> None:
        for line in text.splitlines():
            if line.startswith(MARK):
                self.claim(line.removeprefix(MARK).strip())


def laying(changes: Callable[[Scene], Changes]) -> Callable[[Agent], None]:
    """Play a cheat that only changes files. Raises NotApplicable."""

    def play(agent: Agent) -> None:
        wanted = changes(agent.scene)
        if not wanted:
            raise NotApplicable("there is nothing to change")
        agent.lay(wanted)
        agent.submit()

    return play


def _written(path: str, data: str | bytes | None) -> list[str]:
    """Shell commands that write one file, or remove it; each of at most `CALL_BYTES`."""
    name = shlex.quote(path)
    if data is None:
        return [f"rm -f -- {name}\n"]
    encoded = base64.b64encode(as_bytes(data)).decode()
    size = CALL_BYTES - 1_000 - len(name) * 3
    size -= size % 4
    folder = shlex.quote(path.rpartition("/")[0] or ".")
    made = [f"mkdir -p -- {folder} && : > {name}\n"]
    for start in range(0, len(encoded), size):
        part = encoded[start : start + size]
        made.append(f"base64 -d >> {name} <<'END'\n{part}\nEND\n")
    return made
