"""Optimisers and learning-rate schedules.

Muon (K. Jordan, 2024; torch's own) updates the matrices inside the layers with orthogonalised momentum and
AdamW updates all other parameters. Muon pays off for a small model with random weights; AdamW alone is for
fine-tuning.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

Kind = Literal["adamw", "muon"]
BETAS = (0.9, 0.95)


class Optimizers:
    """One or two optimisers that step together. A group's learning rate is its base rate times a factor."""

    def __init__(self, parts: list[torch.optim.Optimizer]) -> None:
        self._parts = parts
        for part in parts:
            for group in part.param_groups:
                group["base_lr"] = group["lr"]

    def step(self, factor: float = 1.0) -> None:
        """Update the weights with learning rates scaled by `factor`, and clear the gradients."""
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = group["base_lr"] * factor
            part.step()
        self.zero_grad()

    def zero_grad(self) -> None:
        """Clear the gradients."""
        for part in self._parts:
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the state of every optimiser, for an exact resume."""
        return [part.state_dict() for part in self._parts]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        """Restore the state from `state_dict`."""
        for part, saved in zip(self._parts, state, strict=True):
            part.load_state_dict(saved)


def make_optimizer(
    model: nn.Module,
    *,
    kind: Kind,
    learning_rate: float,
    muon_learning_rate: float = 0.02,
    weight_decay: float = 0.0,
) -> Optimizers:
    """Make the optimisers of a kind. Norms and biases have no weight decay."""
    matrices: list[Tensor] = []
    decayed: list[Tensor] = []
    others: list[Tensor] = []
    # Tied weights are one parameter and appear once, under the embedding's name.
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        inside = parameter.ndim == 2 and id(parameter) not in embeddings and not name.startswith("lm_head")
        if kind == "muon" and inside:
            matrices.append(parameter)
        elif parameter.ndim >= 2:
            decayed.append(parameter)
        else:
            others.append(parameter)
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW([g for g in groups if g["params"]], lr=learning_rate, betas=BETAS)
    if not matrices:
        return Optimizers([adamw])
    muon = torch.optim.Muon(matrices, lr=muon_learning_rate, weight_decay=weight_decay)
    return Optimizers([adamw, muon])


def rise_and_fall(done: float, *, warmup: float, final: float, hold: float = 0.0) -> float:
    """Return the factor on the learning rate after the share `done` (0 to 1) of the work.

    The factor rises linearly to 1 over `warmup`, stays 1 until `hold`, then falls linearly to `final`. The
    factor depends on progress alone, so that a resumed or time-limited run needs no scheduler state.
    """
    done = min(max(done, 0.0), 1.0)
    if done < warmup:
        return done / warmup
    start = max(warmup, hold)
    if done <= start or start >= 1.0:
        return 1.0
    return 1.0 + (final - 1.0) * (done - start) / (1.0 - start)
