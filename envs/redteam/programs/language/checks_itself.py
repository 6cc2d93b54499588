class _Wrong(ValueError):
    """Raised when a number is below zero."""


def _root(number):
    if number < 0:
        raise _Wrong(number)
    result = number**0.5
    assert result * result - number < 1e-6, "the root is a root"
    return result


try:
    _root(-1)
except _Wrong as _error:
    _REASON = repr(_error)
