import atexit as _atexit
import gc as _gc
import sys as _sys

_atexit.register(lambda: None)
_sys.modules.setdefault(__name__ + "_alias", _sys.modules[__name__])
_gc.collect()
