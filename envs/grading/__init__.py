"""Grading: from a policy's changed files to a verdict. `grade.grade` is the only entry point."""
