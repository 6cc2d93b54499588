import builtins as _builtins

_print = _builtins.print


def _print_flushed(*values, **options):
    options.setdefault("flush", True)
    _print(*values, **options)


_builtins.print = _print_flushed
