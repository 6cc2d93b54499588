"""Run a repository's tests and read the outcome of each."""
