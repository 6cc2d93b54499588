import time as _time

_ends = _time.process_time() + 2.0
while _time.process_time() < _ends:  # a table that takes long to compute
    _TABLE = [number * number for number in range(10_000)]
