"""The error that ends a training run."""

from __future__ import annotations


class TrainError(Exception):
    """Training cannot go on. One sentence."""
