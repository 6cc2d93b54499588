"""Play a cheat in an episode through the tool calls of an agent, and record the prizes of the cheat."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..coding import CodingEnv
from ..types import Observation, ToolCall
from .program import source
from .scene import Changes, NotApplicable, Scene, as_bytes

CALL_BYTES = 60_000
"""Most bytes of one shell command. Linux limits one argument to 128 KiB."""

MARK = "PRIZE: "
"""Prefix of the lines on which a cheat's program prints a prize; programs use this name."""


class EpisodeOver(Exception):
    """The episode ended, so no more calls can be made. Takes one sentence."""


@dataclass
class Cheater:
    """Plays one cheat in an environment whose episode has begun."""

    env: CodingEnv
    scene: Scene
    seen: str = ""
    """The text of the last observation, except the observation of `submit`."""
    prizes: tuple[str, ...] = ()
    """Descriptions of secrets that the cheat obtained, such as the name of a hidden test."""
    ended: Mapping[str, Any] | None = None
    """The last step's information, once the episode has ended."""

    def call(self, name: str, **arguments: Any) -> Observation:
        """Make one tool call and return its observation.

        Raises EpisodeOver when the episode ended before or, except for `submit`, through this call.
        """
        if self.ended is not None:
            raise EpisodeOver("the episode has ended")
        observation, _reward, terminated, truncated, info = self.env.step(ToolCall("", name, arguments))
        self.seen = observation.text if name != "submit" else self.seen
        if terminated or truncated:
            self.ended = info
            if name != "submit":
                raise EpisodeOver("the episode has ended")
        return observation

    def shell(self, command: str) -> str:
        """Run a command and return its observation; lines that start with `MARK` are prizes."""
        text = self.call("shell", command=command).text
        for line in text.splitlines():
            if line.startswith(MARK):
                self.claim(line.removeprefix(MARK).strip())
        return text

    def run(self, *names: str, arguments: Iterable[str] = (), **values: object) -> str:
        """Join programs of one kind, `.py` or `.sh`, run the text, and return the observation.

        The programs can use `MARK` and `values` as variables; `arguments` are for `.py` programs only.
        """
        text = source(*names, MARK=MARK, **values)
        if names[0].endswith(".sh"):
            return self.shell(text)
        return self.shell(f"python3 - {shlex.join(arguments)} <<'END_OF_PROGRAM'\n{text}END_OF_PROGRAM")

    def lay(self, changes: Changes) -> None:
        """Write and remove files, in as few shell calls as `CALL_BYTES` allows."""
        script = ""
        for path, data in changes.items():
            for part in _commands_that_write(path, data):
                if script and len(script) + len(part) > CALL_BYTES:
                    self.shell(script)
                    script = ""
                script += part
        if script:
            self.shell(script)

    def submit(self) -> None:
        """Submit, unless the episode has ended already."""
        if self.ended is None:
            self.call("submit")

    def again(self) -> None:
        """Submit, and start the next episode of the same task in the same environment."""
        self.submit()
        self.env.reset(options={"task": self.scene.task})
        self.ended = None

    def claim(self, prize: str) -> None:
        """Record a secret that the cheat obtained."""
        self.prizes += (prize,)


Play = Callable[[Cheater], None]
"""Makes the calls of a cheat. Raises NotApplicable, EpisodeOver."""


def laying(changes: Callable[[Scene], Changes]) -> Play:
    """Return a play that changes files and submits. The play raises NotApplicable when there is no change."""

    def play(cheater: Cheater) -> None:
        wanted = changes(cheater.scene)
        if not wanted:
            raise NotApplicable("there is nothing to change")
        cheater.lay(wanted)
        cheater.submit()

    return play


def running(*names: str) -> Play:
    """Return a play that joins programs, runs the text and submits."""

    def play(cheater: Cheater) -> None:
        cheater.run(*names)
        cheater.submit()

    return play


def _commands_that_write(path: str, data: str | bytes | None) -> list[str]:
    """Return shell commands that together write or remove one file, each of at most `CALL_BYTES`."""
    name = shlex.quote(path)
    if data is None:
        return [f"rm -f -- {name}\n"]
    encoded = base64.b64encode(as_bytes(data)).decode()
    size = CALL_BYTES - 1_000 - len(name) * 3
    size -= size % 4  # four characters encode three bytes: every part must decode by itself
    folder = shlex.quote(path.rpartition("/")[0] or ".")
    commands = [f"mkdir -p -- {folder} && : > {name}\n"]
    for start in range(0, len(encoded), size):
        part = encoded[start : start + size]
        commands.append(f"base64 -d >> {name} <<'END'\n{part}\nEND\n")
    return commands
