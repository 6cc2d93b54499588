"""Sandboxes in a Docker engine."""
