"""Red team: everything known that passes without doing the work, and honest work that must still pass."""
