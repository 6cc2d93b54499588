"""Calls of Ray actors: each has a deadline, and Ray's errors are translated here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self


def answer(
    reference: Any,
    *,
    timeout_s: float,
    error: Callable[[str], Exception],
    what: str,
    call: str = "answer",
    passed: tuple[type[Exception], ...] = (),
) -> Any:
    """Wait for the result of a call, and raise `error` of one sentence where there is none.

    The sentence is about `what`, such as "the learner", and the method that was called. Errors of the types
    `passed`, which the method itself raised, are raised as they are.
    """
    import ray
    from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

    try:
        return ray.get(reference, timeout=max(0.0, timeout_s))
    except GetTimeoutError:
        raise error(f"{what} did not {call} within {timeout_s:.0f} s") from None
    except RayTaskError as failure:
        cause = failure.cause if isinstance(failure.cause, Exception) else failure
        if isinstance(cause, passed):
            raise cause from None
        raise error(f"{what} could not {call}: {type(cause).__name__}: {_line(cause)}") from failure
    except RayActorError as failure:
        raise error(f"{what} died ({_line(failure)[:300]})") from None
    except RayError as failure:
        raise error(f"{what} cannot be reached ({_line(failure)[:300]})") from None


class RemoteActor:
    """A Ray actor whose methods are called by name and block. Thread-safe; copies call the same actor."""

    def __init__(
        self,
        actor: Any,
        *,
        what: str,
        error: Callable[[str], Exception],
        passed: tuple[type[Exception], ...] = (),
    ) -> None:
        """`what`, `error` and `passed` are those of `answer`, for every call."""
        self._actor, self._what, self._error, self._passed = actor, what, error, passed

    @classmethod
    def start(
        cls,
        kind: type,
        *args: Any,
        options: Mapping[str, Any],
        what: str,
        error: Callable[[str], Exception],
        passed: tuple[type[Exception], ...] = (),
    ) -> Self:
        """Have Ray make `kind(*args)` in a process of its own; does not wait for it.

        `kind.__init__` should do nothing that can fail: Ray reports that as the actor's death.
        """
        import ray

        actor = ray.remote(kind).options(**options).remote(*args)
        return cls(actor, what=what, error=error, passed=passed)

    def send(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Begin a call; `wait` takes the reference that is returned."""
        if self._actor is None:
            raise self._error(f"{self._what} was closed")
        return getattr(self._actor, method).remote(*args, **kwargs)

    def wait(self, reference: Any, timeout_s: float, call: str = "answer") -> Any:
        """Wait for a call that was begun with `send`."""
        return answer(
            reference,
            timeout_s=timeout_s,
            error=self._error,
            what=self._what,
            call=call,
            passed=self._passed,
        )

    def call(self, method: str, timeout_s: float, /, *args: Any, **kwargs: Any) -> Any:
        """Call a method and wait for its result."""
        return self.wait(self.send(method, *args, **kwargs), timeout_s, method)

    def kill(self) -> None:
        """End the actor's process. Safe to call twice, and after Ray has ended."""
        import ray

        actor, self._actor = self._actor, None
        if actor is not None and ray.is_initialized():
            ray.kill(actor, no_restart=True)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
