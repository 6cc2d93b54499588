"""Grading: from a policy's changed files to a verdict. The entry point is `grade.grade`."""
