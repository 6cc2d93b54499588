import contextvars as _contextvars

_depth = _contextvars.ContextVar("depth", default=0)
_token = _depth.set(1)
_INSIDE = _contextvars.copy_context().run(_depth.get)
_depth.reset(_token)
