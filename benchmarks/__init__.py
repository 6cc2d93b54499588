"""Benchmarks of every part of the system. Not installed; run by `make bench`."""
