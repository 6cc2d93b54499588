"""Changes of a git history, split into tasks."""
