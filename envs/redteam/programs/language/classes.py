import abc as _abc
import dataclasses as _dataclasses
import enum as _enum


class _Kind(_enum.Enum):
    SMALL = "small"
    LARGE = "large"


@_dataclasses.dataclass(order=True)
class _Row:
    name: str
    kind: _Kind = _dataclasses.field(default=_Kind.SMALL, compare=False)


class _Shape(_abc.ABC):
    @_abc.abstractmethod
    def area(self):
        """Return the area."""


_Shape.register(_Row)
_ROWS = sorted([_Row("b"), _Row("a", _Kind.LARGE)])
