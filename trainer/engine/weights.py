"""Weight files from the learner to the engine.

`publish` writes a complete checkpoint under a temporary name and renames it, so that no reader sees a partial
file. The engine loads the file (`trainer.engine.transfer`); `trainer.engine.client.FileSender` removes it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

CLEAR = 20.0
"""How many times the rounding of one token two versions must lie apart, so that they can be told apart."""


class WeightError(Exception):
    """Weights could not be published, or do not fit the model. Takes one sentence."""


def publish(
    tensors: Mapping[str, torch.Tensor], version: int, folder: Path, *, dtype: torch.dtype | None = None
) -> Path:
    """Write a model's state, in checkpoint naming, to a new file in `folder` and return its path.

    Of tensors that share their storage (tied embeddings) the first is written. Raises `WeightError`.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path = folder / f"weights-{version:06d}.safetensors"
    part = folder / f".{path.name}.part"
    try:
        save_file(_plain(tensors, dtype), part, metadata={"version": str(version)})
        part.replace(path)
    except (OSError, SafetensorError) as error:
        part.unlink(missing_ok=True)
        raise WeightError(
            f"cannot write weights into {folder}: {error}; set engine.weight_folder to a place with room"
        ) from None
    return path


def _plain(tensors: Mapping[str, torch.Tensor], dtype: torch.dtype | None) -> dict[str, torch.Tensor]:
    seen: set[int] = set()
    plain: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.data_ptr() in seen:
            continue
        seen.add(tensor.data_ptr())
        plain[name] = tensor.detach().to(dtype=dtype or tensor.dtype, device="cpu").contiguous()
    return plain


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Read the names and shapes of a model folder or of one safetensors file, not the weights themselves.

    Raises `WeightError`.
    """
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    found: dict[str, tuple[int, ...]] = {}
    for file in files:
        try:
            with file.open("rb") as stream:
                header_bytes = int.from_bytes(stream.read(8), "little")
                header: dict[str, Any] = json.loads(stream.read(header_bytes))
            header.pop("__metadata__", None)
            end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
            if file.stat().st_size != 8 + header_bytes + end:
                raise ValueError("the file is not complete")
        except (OSError, ValueError, MemoryError, OverflowError) as error:
            raise WeightError(f"cannot read weights from {file}: {error}") from None
        found |= {name: tuple(entry["shape"]) for name, entry in header.items()}
    return found


def check_fit(new: Mapping[str, tuple[int, ...]], known: Mapping[str, tuple[int, ...]]) -> None:
    """Raise `WeightError` unless a checkpoint has every tensor of the model, in its shape, and no other.

    An output layer that one side leaves out because it is tied to the embedding does not count.
    """
    for name in sorted(set(new) | set(known)):
        if name == "lm_head.weight" and (name not in new or name not in known):
            continue
        if name not in new or name not in known:
            raise WeightError(f"the weights {'lack' if name not in new else 'have an unknown'} {name}")
        if new[name] != known[name]:
            raise WeightError(f"{name} has shape {list(new[name])}, the model's is {list(known[name])}")


@dataclass(frozen=True)
class WeightProbe:
    """Log-probabilities of one sequence under the learner's new weights, to check the engine's against."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    """Log-probabilities of `ids[1:]` (nats), at temperature 1."""
    before: tuple[float, ...] = ()
    """The same under the weights that the engine had before; empty when these are unknown."""
    tolerance: float = 1e-3
    """Largest difference in nats that counts as rounding. bfloat16 needs about 0.3."""
    rounding: float = 1e-6
    """Usual size of that difference (root mean square, nats): bfloat16 has about 5e-3."""

    def __post_init__(self) -> None:
        assert len(self.logprobs) == len(self.ids) - 1 > 0, "one log-probability per id but the first"
        assert len(self.before) in (0, len(self.logprobs)), "one log-probability per id but the first"

    def complaint(self, engine: Sequence[float]) -> str:
        """Say what is wrong with the engine's log-probabilities of `ids[1:]`; empty when nothing is.

        Wrong weights differ by more than rounding. Weights of the version before differ by less than that
        after an update at a learning rate of 1e-6, yet every difference points back to them: `share` is how
        much of the way from the log-probabilities before to the new ones the engine has gone, 1 or 0 but for
        rounding.
        """
        difference = max(abs(a - b) for a, b in zip(self.logprobs, engine, strict=True))
        if not difference <= self.tolerance:
            return (
                f"the engine's log-probabilities differ from the learner's by {difference:.3g} nats, "
                f"more than {self.tolerance:.3g}"
            )
        way = [new - old for new, old in zip(self.logprobs, self.before, strict=False)]
        gone = [now - old for now, old in zip(engine, self.before, strict=False)]
        length = math.sqrt(sum(step * step for step in way))
        if length < CLEAR * self.rounding:
            return ""  # nothing known, or the two versions differ by no more than rounding
        share = sum(a * b for a, b in zip(gone, way, strict=True)) / length**2
        return "" if share > 0.5 else f"the engine still has the weights before them ({share:.0%} of the way)"
