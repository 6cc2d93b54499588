"""Measure the Docker environments of other systems, mini-swe-agent and SWE-ReX, beside this project's.

The peers need a separate Python environment (`pip install mini-swe-agent swe-rex`), since their dependencies
may conflict with ours. This file is also the program that runs there: it reads one word per line (`start`,
`step`, `stop`) and answers each with the milliseconds taken.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

PEERS = ("mini-swe-agent", "swe-rex")
ANSWER_S = 120.0
SITE = "/opt/env"
"""Where our images keep their packages: SWE-ReX needs its server inside the image."""


class Peer:
    """Another system, driven through the pipes of its interpreter."""

    def __init__(self, python: Path, name: str, image: str) -> None:
        """Start the interpreter; the system itself starts with `measure("start")`."""
        # -I: the modules beside this file must not be taken for that interpreter's.
        self.name = name
        self._process = subprocess.Popen(
            [str(python), "-I", __file__, name, image],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
        )

    def measure(self, word: str) -> float:
        """Send one word and return the milliseconds. Raises RuntimeError when the peer fails."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            print(word, file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        except OSError:
            answer = ""
        kind, _, rest = answer.strip().partition(" ")
        if kind != "ms":
            raise RuntimeError(f"{self.name} could not {word}: {rest or 'it ended'}")
        return float(rest)

    def close(self) -> None:
        """End the peer and its container."""
        try:
            self.measure("stop")
        except RuntimeError:
            pass  # it had not started, or is gone
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()


def installed(python: Path) -> list[str]:
    """Return the names of the peers that a Python interpreter can import."""
    modules = {"mini-swe-agent": "minisweagent", "swe-rex": "swerex"}
    found: list[str] = []
    for name, module in modules.items():
        looked = subprocess.run(
            [str(python), "-c", f"import importlib.util as u; raise SystemExit(not u.find_spec('{module}'))"],
            timeout=ANSWER_S,
            check=False,
        )
        found += [name] if looked.returncode == 0 else []
    return found


def pins(python: Path, name: str) -> tuple[str, ...]:
    """Return `name==version` of a package and of its installed dependencies."""
    command = [str(python), "-I", __file__, "pins", name]
    return tuple(
        subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()
    )


# What follows runs in the peers' interpreter.


def print_pins(name: str) -> None:
    found: dict[str, str] = {}
    wanted = [name]
    while wanted:
        try:
            package = metadata.distribution(wanted.pop())
        except metadata.PackageNotFoundError:
            continue  # for another platform, or an extra
        if package.name not in found:
            found[package.name] = package.version
            rows = [row for row in package.requires or [] if "extra ==" not in row]
            wanted += [re.split(r"[^\w.-]", row)[0] for row in rows]
    print("\n".join(f"{package}=={version}" for package, version in sorted(found.items())))


def mini_swe_agent(image: str) -> dict[str, Callable[[], object]]:
    from minisweagent.environments.docker import DockerEnvironment  # pyright: ignore[reportMissingImports]

    made: list[Any] = []
    # Its default runs every command in a login shell (`bash -lc`); its own benchmark settings use this.
    settings = {"image": image, "interpreter": ["bash", "-c"], "run_args": ["--rm", "--network", "none"]}
    return {
        "start": lambda: made.append(DockerEnvironment(**settings)),
        "step": lambda: made[-1].execute({"command": "true"}),
        "stop": lambda: subprocess.run(
            ["docker", "rm", "-f", made.pop().container_id], capture_output=True, timeout=60, check=True
        ),
    }


def swe_rex(image: str) -> dict[str, Callable[[], object]]:
    from swerex.deployment.docker import DockerDeployment  # pyright: ignore[reportMissingImports]
    from swerex.runtime.abstract import (  # pyright: ignore[reportMissingImports]
        BashAction,
        CreateBashSessionRequest,
    )

    loop = asyncio.new_event_loop()
    made: list[Any] = []
    environment = ["-e", f"PYTHONPATH={SITE}", "-e", f"PATH={SITE}/bin:/usr/local/bin:/usr/bin:/bin"]

    async def start() -> None:
        made.append(DockerDeployment(image=image, pull="never", docker_args=environment))
        await made[-1].start()
        await made[-1].runtime.create_session(CreateBashSessionRequest())

    async def step() -> None:
        await made[-1].runtime.run_in_session(BashAction(command="true"))

    async def stop() -> None:
        await made.pop().stop()

    return {
        "start": lambda: loop.run_until_complete(start()),
        "step": lambda: loop.run_until_complete(step()),
        "stop": lambda: loop.run_until_complete(stop()),
    }


def main(name: str, image: str) -> None:
    """Answer the words on standard input with milliseconds; a peer's own output goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    doing = {"mini-swe-agent": mini_swe_agent, "swe-rex": swe_rex}[name](image)
    for line in sys.stdin:
        started = time.perf_counter()
        try:
            doing[line.strip()]()
        except Exception as error:
            print("failed", " ".join(str(error).split())[:300], file=answers)
        else:
            print("ms", (time.perf_counter() - started) * 1e3, file=answers)


if __name__ == "__main__" and sys.argv[1] == "pins":
    print_pins(sys.argv[2])
elif __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
