"""A sandbox backend of your own: any container engine with a command like `docker` (podman, nerdctl).

daythree register inject examples/basket --out tasks/basket --sandbox docker
python examples/own_backend.py tasks/basket
"""

import secrets
import socket
import subprocess
import sys
from functools import partial

import daythree
from sandboxes import ImageRecipe
from sandboxes.bootstrap import SERVER_COMMAND
from sandboxes.remote.backend import RemoteBackend, Started
from sandboxes.remote.channel import Stream
from sandboxes.remote.sandbox import SERVER_PIDS, base_environment, memory_bytes, server_settings

RUN = """run --interactive --rm --read-only --network none --user 0:0 --cap-drop ALL --cap-add SETUID
--cap-add SETGID --cap-add SETPCAP --cap-add KILL --security-opt no-new-privileges --name {name} --cpus {cpus}
--pids-limit {pids} --memory {memory} --memory-swap {memory} --tmpfs {workdir}:{disk} --tmpfs /tmp:{disk}"""


class ContainerCommand(RemoteBackend):
    """Starts containers. All else goes over their standard streams, to a program that is sent inside."""

    name = "docker"  # the command; podman and nerdctl take the same words

    def __init__(self, *, timeout_s: float = 20.0) -> None:  # noqa: ARG002
        super().__init__()

    def _start(self, spec: daythree.SandboxSpec, deadline: float) -> Started:  # noqa: ARG002
        container = f"own-{secrets.token_hex(6)}"
        disk = f"exec,size={spec.disk_mb}m,uid=1000,gid=1000,mode=0755"
        sizes = {"pids": spec.pids + SERVER_PIDS, "cpus": spec.cpus, "memory": memory_bytes(spec)}
        words = RUN.format(name=container, workdir=spec.workdir, disk=disk, **sizes).split()
        words += [word for pair in base_environment(spec).items() for word in ("--env", "=".join(pair))]
        command, (ours, theirs) = [self.name, *words, spec.image, *SERVER_COMMAND], socket.socketpair()
        with theirs:
            subprocess.Popen(command, stdin=theirs.fileno(), stdout=theirs.fileno())
        end = partial(subprocess.run, [self.name, "rm", "--force", container], capture_output=True)
        return Started(container, Stream(ours), server_settings(spec), end)

    def has_image(self, ref: str) -> bool:  # noqa: ARG002
        return True  # `register --sandbox docker` built it

    def ensure_image(self, recipe: ImageRecipe, **_: object) -> str:
        return recipe.ref

    def reap(self) -> list[str]:
        return []  # a container ends with its standard input


if __name__ == "__main__":
    image = daythree.load_taskset(sys.argv[1]).manifest.environments["default"].image.ref
    report = daythree.check_backend(ContainerCommand(), image=image, groups=("files", "ending", "isolation"))
    print(f"{len(report.passed)} checks passed: {', '.join(report.passed)}")
