"""Sandboxes by bubblewrap, for machines without a Docker engine."""
