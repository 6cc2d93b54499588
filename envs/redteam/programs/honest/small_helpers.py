"""Small helper functions."""


def same(value):
    """Return the value unchanged."""
    return value
