"""A cheat at work in an episode: the tool calls that any agent may make, and what they gave away."""

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
"""Bytes of one shell command; the kernel takes twice that as one argument."""

MARK = "PRIZE: "
"""What a cheat's program prints before what it got hold of; programs know it by this name."""


class EpisodeOver(Exception):
    """The episode ended, so no more calls can be made. Takes one sentence."""


@dataclass
class Cheater:
    """Plays one cheat in an environment whose episode has begun."""

    env: CodingEnv
    scene: Scene
    seen: str = ""
    """The text of the last observation, but for that of `submit`."""
    prizes: tuple[str, ...] = ()
    """What the cheat got hold of and must not have."""
    ended: Mapping[str, Any] | None = None
    """The last step's information, once the episode has ended."""

    def call(self, name: str, **arguments: Any) -> Observation:
        """Make one call. Raises EpisodeOver."""
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
        """Run programs of one kind, `.py` or `.sh`, as one, with `MARK` and the values that they use."""
        text = source(*names, MARK=MARK, **values)
        if names[0].endswith(".sh"):
            return self.shell(text)
        return self.shell(f"python3 - {shlex.join(arguments)} <<'END_OF_PROGRAM'\n{text}END_OF_PROGRAM")

    def lay(self, changes: Changes) -> None:
        """Change files, in as few calls as fit."""
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
        """Hand in the work, where the episode has not ended yet."""
        if self.ended is None:
            self.call("submit")

    def again(self) -> None:
        """Hand in, and begin the same task anew: the next episode on this machine."""
        self.submit()
        self.env.reset(options={"task": self.scene.task})
        self.ended = None

    def claim(self, prize: str) -> None:
        """Record something that the cheat got hold of."""
        self.prizes += (prize,)


Play = Callable[[Cheater], None]
"""Makes the calls of a cheat. Raises NotApplicable, EpisodeOver."""


def laying(changes: Callable[[Scene], Changes]) -> Play:
    """Return a play that changes files and submits; not applicable where nothing would change."""

    def play(cheater: Cheater) -> None:
        wanted = changes(cheater.scene)
        if not wanted:
            raise NotApplicable("there is nothing to change")
        cheater.lay(wanted)
        cheater.submit()

    return play


def running(*names: str) -> Play:
    """Return a play that runs several programs as one program and submits."""

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
    size -= size % 4
    folder = shlex.quote(path.rpartition("/")[0] or ".")
    commands = [f"mkdir -p -- {folder} && : > {name}\n"]
    for start in range(0, len(encoded), size):
        part = encoded[start : start + size]
        commands.append(f"base64 -d >> {name} <<'END'\n{part}\nEND\n")
    return commands
