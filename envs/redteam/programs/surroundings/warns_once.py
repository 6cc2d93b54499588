import warnings as _warnings

_WARNED = set()


def _warn_once(message):
    """Warn the first time that a process uses an old name."""
    if message not in _WARNED:
        _WARNED.add(message)
        _warnings.warn(message, PendingDeprecationWarning, stacklevel=2)


_warn_once("this name will go away")
_warn_once("this name will go away")
