"""Settings: dataclasses that have no defaults, check every field when made, and are set once."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints


class Bound(NamedTuple):
    """The interval that a number must lie in; `strict` leaves out the ends."""

    low: float = -math.inf
    high: float = math.inf
    strict: bool = False

    def holds(self, value: float) -> bool:
        """Whether `value` lies in the interval. NaN never does."""
        return self.low < value < self.high if self.strict else self.low <= value <= self.high

    def __str__(self) -> str:
        if math.isfinite(self.low) and math.isfinite(self.high):
            return f"in {'(' if self.strict else '['}{self.low:g}, {self.high:g}{')' if self.strict else ']'}"
        if math.isfinite(self.high):
            return f"{'<' if self.strict else '≤'} {self.high:g}"
        return f"{'>' if self.strict else '≥'} {self.low:g}"


Share = Annotated[float, Bound(0, 1)]
Positive = Annotated[float, Bound(0, strict=True)]
NonNegative = Annotated[float, Bound(0)]
NonPositive = Annotated[float, Bound(high=0)]
Count = Annotated[int, Bound(1)]
NoneOrMore = Annotated[int, Bound(0)]


@dataclass(kw_only=True, eq=False)
class Settings:
    """Base of estimators and sources: YAML keys are constructor fields, and a bad value is refused by name."""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self), include_extras=True)
        for field in fields(self):
            value = getattr(self, field.name)
            if complaint := _complaint(hints[field.name], value):
                raise ValueError(f"{type(self).__name__}.{field.name} must be {complaint}, got {value!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in vars(self) and name in {field.name for field in fields(self)}:
            raise AttributeError(f"{type(self).__name__}.{name} is a setting and is set once")
        super().__setattr__(name, value)

    def settings(self) -> dict[str, Any]:
        """Field names and values, as the YAML has them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def _complaint(hint: Any, value: Any) -> str | None:
    """What `value` should have been, or None if it is fine."""
    if get_origin(hint) in (Union, UnionType):
        if value is None:
            return None
        (inner,) = (arg for arg in get_args(hint) if arg is not NoneType)
        complaint = _complaint(inner, value)
        return complaint and f"{complaint} or null"
    if get_origin(hint) is Literal:
        return None if value in get_args(hint) else "one of " + ", ".join(map(str, get_args(hint)))
    if (get_origin(hint) or hint) is Mapping:
        return None if isinstance(value, Mapping) else "a mapping"
    if hint is str:
        return None if isinstance(value, str) else "text"
    if hint is bool:
        return None if isinstance(value, bool) else "true or false"
    kind, bound = get_args(hint) if get_origin(hint) is Annotated else (hint, Bound())
    if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
        return f"a {'whole ' if kind is int else ''}number {bound}"
    return None if bound.holds(value) else str(bound)
