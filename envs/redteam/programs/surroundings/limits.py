import decimal as _decimal
import sys as _sys

_sys.setrecursionlimit(max(_sys.getrecursionlimit(), 3000))
with _decimal.localcontext() as _context:
    _context.prec = 40
    _THIRD = _decimal.Decimal(1) / 3
