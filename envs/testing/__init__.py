"""Run a repository's tests and learn the outcome of each."""
