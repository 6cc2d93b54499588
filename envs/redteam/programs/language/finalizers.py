import weakref as _weakref


class _Resource:
    def __init__(self):
        self.open = True

    def __del__(self):
        self.open = False


_held = _Resource()
_weakref.finalize(_held, lambda: None)
_other = _Resource()
del _other
