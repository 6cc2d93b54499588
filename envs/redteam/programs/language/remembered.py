import functools as _functools


@_functools.lru_cache(maxsize=None)
def _steps(number):
    """Return the steps of the Collatz sequence from a number to 1."""
    return 0 if number == 1 else 1 + _steps(number // 2 if number % 2 == 0 else 3 * number + 1)


_LONGEST = max(range(1, 500), key=_steps)
