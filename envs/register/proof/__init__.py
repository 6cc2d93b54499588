"""Proof that a task is sound before it is registered."""
