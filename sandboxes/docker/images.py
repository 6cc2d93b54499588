"""Images for a Docker engine: a base imported from a folder, and one layer with the Python packages.

Nothing is pulled unless a recipe names an image as its base, and no build step has a network: packages are
installed on this side (`sandboxes.images.build`) and sent as files.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docker.errors

from ..base import SandboxUnavailable
from ..images.build import ENVIRONMENT_FOLDER, ensure_base, ensure_environment
from ..images.recipe import ImageRecipe
from ..progress import Progress

CHUNK = 1 << 20


def build_image(api: Any, recipe: ImageRecipe, deadline: float, progress: Progress) -> None:
    """Build `recipe.ref` if missing. Raises `SandboxUnavailable`, and docker-py's exceptions."""
    base = recipe.base
    if recipe.bootstrapped:
        base = f"daythree/base:{recipe.base_digest}"
        if not present(api, base):
            import_base(api, recipe, base, deadline, progress)
    elif not present(api, base):
        progress(f"pulling {base}", 0, 1)
        api.pull(base)
    environment = ensure_environment(recipe, deadline=deadline, progress=progress)
    progress(f"building {recipe.ref}", 0, 1)
    dockerfile = f"FROM {base}\nCOPY environment {ENVIRONMENT_FOLDER}\nLABEL daythree=1\n"
    context = packed(environment, "environment", dockerfile, deadline)
    output = api.build(
        fileobj=Body(context),
        custom_context=True,
        tag=recipe.ref,
        rm=True,
        forcerm=True,
        network_mode="none",
        decode=True,
        timeout=max(1, int(deadline - time.monotonic())),
    )
    raise_failure(output)
    progress(f"building {recipe.ref}", 1, 1)


def present(api: Any, name: str) -> bool:
    try:
        api.inspect_image(name)
    except docker.errors.ImageNotFound:
        return False
    return True


def import_base(api: Any, recipe: ImageRecipe, name: str, deadline: float, progress: Progress) -> None:
    root = ensure_base(recipe, deadline=deadline, progress=progress)
    progress("importing the base image", 0, 1)
    repository, _, tag = name.partition(":")
    thread = ThreadPoolExecutor(1)  # docker-py waits without a limit here
    answer = thread.submit(
        api.import_image_from_data, Body(archive(root, deadline)), repository=repository, tag=tag
    )
    thread.shutdown(wait=False)
    try:
        lines = answer.result(max(0.0, deadline - time.monotonic())).splitlines()
    except TimeoutError:
        raise SandboxUnavailable("the Docker engine did not import the base image in time") from None
    raise_failure(json.loads(line) for line in lines)
    progress("importing the base image", 1, 1)


class Body:
    """A request body of unknown length, read while it is sent."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks


def archive(root: Path, deadline: float) -> Iterator[bytes]:
    """Pack a folder as a tar archive with owners and devices. Raises `SandboxUnavailable`."""
    command = ["tar", "-C", str(root), "--numeric-owner", "--one-file-system", "-cf", "-", "."]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        try:
            while chunk := process.stdout.read(CHUNK):
                if time.monotonic() > deadline:
                    raise SandboxUnavailable("packing the base image took too long")
                yield chunk
            if process.wait(10) != 0:
                raise SandboxUnavailable(f"cannot read all of {root}; it belongs to root, run this as root")
        finally:
            process.kill()


def packed(folder: Path, name: str, dockerfile: str, deadline: float) -> Iterator[bytes]:
    """Pack a build context: a Dockerfile, and a folder whose files belong to root."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        text = dockerfile.encode()
        info = tarfile.TarInfo("Dockerfile")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
        for path in [folder, *sorted(folder.rglob("*"))]:
            inside = str(Path(name) / path.relative_to(folder))
            tar.add(path, inside, recursive=False, filter=owned_by_root)
            if buffer.tell() > CHUNK:
                if time.monotonic() > deadline:
                    raise SandboxUnavailable("packing the environment took too long")
                yield drained(buffer)
    yield drained(buffer)


def drained(buffer: io.BytesIO) -> bytes:
    data = buffer.getvalue()
    buffer.seek(0)
    buffer.truncate()
    return data


def owned_by_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


def raise_failure(lines: Iterator[dict[str, Any]]) -> None:
    """Read the engine's build log to its end. Raises `SandboxUnavailable` when it contains an error."""
    for line in lines:
        if "error" in line:
            raise SandboxUnavailable(f"the Docker engine could not build the image: {line['error'].strip()}")
