import contextlib as _contextlib


@_contextlib.contextmanager
def _managed(log):
    log.append("begin")
    try:
        yield log
    finally:
        log.append("end")


with _managed([]) as _LOG:
    _LOG.extend(number for number in range(3))
