from concurrent.futures import ThreadPoolExecutor as _ThreadPoolExecutor

_pool = _ThreadPoolExecutor(4)
_SQUARES = list(_pool.map(lambda number: number * number, range(20)))
