"""What all sections are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Gt, Le, MinLen

Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
Count = Annotated[int, Ge(1)]
Name = Annotated[str, MinLen(1)]
Paths = Name | Annotated[list[Name], MinLen(1)]
"""A path of data, or several, see `each`."""


def each(paths: str | list[str]) -> list[str]:
    """The paths, whether one was given or a list of them."""
    return [paths] if isinstance(paths, str) else paths


@dataclass(frozen=True)
class OnlyFor:
    """Marks a field that is read only when its group's `name`, or that of another group, is one of these kinds."""

    kinds: tuple[str, ...]
    group: str | None = None
    """The group whose kind decides; None: the field's own."""


@dataclass(frozen=True)
class MultipleOfKeys:
    """Marks a field that has to be a multiple of the product of these keys' values (null counts 1) and numbers: a search moves what it
    proposes to the nearest one."""

    factors: tuple[str | int, ...]


@dataclass(frozen=True)
class EvaluationSets:
    """Marks a mapping of data.* whose entries are evaluation sets (`harness.evaluation` has a kind for each such mapping)."""

    prefix: str
    """What their metrics are logged under: <prefix>/<name of the set>/<metric>."""


class Section:
    """Base of all sections: no unknown keys, no NaN; `2e6` is an integer; numbers may stand for text (a project called 2024)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {
        "extra": "forbid",
        "allow_inf_nan": False,
        "coerce_numbers_to_str": True,
    }
    __dataclass_fields__: ClassVar[dict[str, Any]]

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse a misspelt key where it is set."""
        if name not in self.__dataclass_fields__:
            raise AttributeError(f"unknown key {name!r}; valid: {', '.join(self.__dataclass_fields__)}")
        super().__setattr__(name, value)
