"""Evaluations: run a policy on tasks, score it, grade its patches again."""
