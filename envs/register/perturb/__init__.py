"""The same task with other names: does a policy solve it, or does it remember?

Identifiers are renamed, modules moved and messages put in other words, consistently in everything a task
consists of. What comes out is a task set like any other, and every task in it has been proven.
"""
