"""Red team: known ways to pass a task without doing the work, and honest but unusual work that must still pass."""
