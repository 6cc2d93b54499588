import functools as _functools


def _wrapping(function):
    """Call it, as decorators do."""

    @_functools.wraps(function)
    def called(*given, **named):
        return function(*given, **named)

    return called
