"""Small things."""


def same(value):
    """Return it."""
    return value
