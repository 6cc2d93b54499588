"""Policies: scripted, oracle, endpoint, and tokens sampled from an engine."""
