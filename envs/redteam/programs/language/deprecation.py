import functools as _functools
import inspect as _inspect
import traceback as _traceback


def _deprecated(function):
    """Note the first caller of an old function, to tell its author."""

    @_functools.wraps(function)
    def called(*given, **named):
        called.by = _traceback.extract_stack(limit=2)[0].lineno
        return function(*given, **named)

    return called


@_deprecated
def _old_name(number):
    return number + 1


_CALLED = _old_name(1), _inspect.stack()[0].function
