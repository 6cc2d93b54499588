"""Perturbed copies of a task, to tell a policy that solves the task from one that remembers its solution.

Identifiers are renamed, modules moved and messages reworded, consistently in the trees, patch, instruction
and history of a task. The result is an ordinary task set whose tasks have been validated by grading.
"""
