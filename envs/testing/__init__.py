"""Runs of a repository's tests, with the outcome of each test."""
