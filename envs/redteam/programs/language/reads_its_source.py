import inspect as _inspect
import pathlib as _pathlib

_SOURCE = _pathlib.Path(__file__).read_text(encoding="utf-8", errors="replace")
_LINES = len(_SOURCE.splitlines())


def _documented(function):
    return _inspect.signature(function), _inspect.getdoc(function)


_SIGNATURE = _documented(_documented)
