"""Bugs put into working code."""
