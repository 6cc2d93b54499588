import importlib as _importlib

try:
    import a_library_that_few_people_have as _optional
except ImportError:
    _optional = None


def _lazily(name):
    """Import a module where it is first needed."""
    return _importlib.import_module(name)


_SEPARATOR = _lazily("os.path").sep
