"""Perturb tasks, to distinguish a policy that solves a task from a policy that memorised the solution.

Identifiers are renamed, modules moved and messages reworded, consistently in the trees, patch, instruction
and history of a task. The result is an ordinary task set whose tasks have been validated by grading.
"""
