import functools as _functools


def _wrapping(function):
    """Return a function that only calls the given function."""

    @_functools.wraps(function)
    def called(*given, **named):
        return function(*given, **named)

    return called
