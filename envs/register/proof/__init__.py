"""Proof that tasks are sound: of a draft by its tests, of a task by grading, of a task set as a whole."""
