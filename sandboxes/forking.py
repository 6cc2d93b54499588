"""Several sandboxes that go on from where one is."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from .backend import Backend
from .base import Sandbox

AT_ONCE = 8


def fork(backend: Backend, sandbox: Sandbox, count: int, *, timeout_s: float) -> list[Sandbox]:
    """So many more sandboxes of the same spec, whose files are those of `sandbox` now; it goes on as well.

    None of them sees what another writes from here on. Raises what `snapshot` and `open` raise, and leaves no
    fork behind then.
    """
    deadline = time.monotonic() + timeout_s
    content = sandbox.snapshot(timeout_s=timeout_s)

    def open_one(_number: int) -> Sandbox:
        return backend.open(sandbox.spec, timeout_s=deadline - time.monotonic(), content=content)

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fork") as threads:
        opening = [threads.submit(open_one, number) for number in range(count)]
    if all(one.exception() is None for one in opening):
        return [one.result() for one in opening]
    for one in opening:
        if one.exception() is None:
            one.result().close()
    raise next(error for error in (one.exception() for one in opening) if error is not None)
