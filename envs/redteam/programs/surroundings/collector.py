import gc as _gc

_gc.disable()
_MANY = [[number] for number in range(10_000)]
_gc.enable()
_gc.freeze()
