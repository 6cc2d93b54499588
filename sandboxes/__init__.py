"""Run commands somewhere isolated. Knows nothing of tasks or models."""
