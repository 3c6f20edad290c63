"""Records: what poolings, losses, solvers and scores are made of.

Each is one frozen dataclass in one file, which answers all that the rest asks of its kind. Its
fields are its options, each with its range beside it, so that a value is refused with one line
wherever it comes from: a command, a YAML file or Python.
"""

import copy
import functools
import math
import typing
from collections.abc import Collection, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, ClassVar, Self

import jax
import numpy as np

from nstyle.errors import NstyleError, check_choice, nearest

#: Numbers are float32 in the losses: what is larger would be infinite there.
LARGEST = 3e38


def number(default: float, low: float, high: float = math.inf, traced: bool = False) -> Any:
    """Returns the field of a number from `low` to `high`; of whole ones where it is an `int`.

    Args:
      default: its value unless given.
      low: least value.
      high: largest value.
      traced: whether compiled programs take it as an argument, so that none is compiled again for
        another value. The record's functions are then given a tracer: nothing may depend on it by
        `if`, nor any shape.
    """
    return field(default=default, metadata={"range": (low, high), "traced": traced})


def records() -> Any:
    """Returns the field of a tuple of records of the same group, which settings name."""
    return field(default=(), metadata={"records": True})


def choice(default: str, allowed: Collection[str]) -> Any:
    """Returns the field of a text that is one of `allowed`."""
    return field(default=default, metadata={"allowed": tuple(allowed)})


def _is_traced(option: "Field[Any]") -> bool:
    return bool(option.metadata.get("traced"))


def check_number(key: str, value: Any, low: float, high: float) -> None:
    """Refuses what is no number from `low` to `high`.

    Raises:
      NstyleError: the line begins with `key`.
    """
    high = min(high, LARGEST)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise NstyleError(f"{key}: {value!r} is not a number")
    if not low <= value <= high:
        allowed = f"at least {low}" if high == LARGEST > value else f"from {low} to {high}"
        raise NstyleError(f"{key}: {value} is out of range (allowed: a number {allowed})")


@dataclass(frozen=True)
class Record:
    """A pooling, loss, solver or score with its options; hashable.

    Attributes:
      group: the setting that chooses one, as `style_loss`.
      name: what it is called in that setting and in reports; the class's own unless given.

    Raises:
      NstyleError: an option is of another type or out of its range.
    """

    group: ClassVar[str]
    name: ClassVar[str]

    def __init_subclass__(cls) -> None:
        cls.name = cls.__dict__.get("name", cls.__name__)

    @property
    def is_built_in(self) -> bool:
        """Whether this package defines it, and not its user."""
        return type(self).__module__.partition(".")[0] == __package__

    @property
    def parts(self) -> tuple["Record", ...]:
        """The records that decide what it does: itself, and those among its options."""
        return (self,)

    @property
    def numbers(self) -> dict[str, Any]:
        """Its traced options, by name."""
        return {own.name: getattr(self, own.name) for own in fields(self) if _is_traced(own)}

    @property
    def static(self) -> Self:
        """The same record, its traced options at their defaults: what decides a program."""
        return replace(self, **{own.name: own.default for own in fields(self) if _is_traced(own)})

    def bound(self, numbers: Mapping[str, Any]) -> Self:
        """Returns the same record with other values of its traced options, which may be tracers."""
        own = copy.copy(self)
        for name, value in numbers.items():
            object.__setattr__(own, name, value)
        return own

    @classmethod
    def of(cls, options: Mapping[str, Any], key: str | None = None) -> Self:
        """Returns a record of this class with options from a settings file.

        Args:
          options: by name; those left out have their defaults.
          key: what error lines begin with, the group unless given.

        Raises:
          NstyleError: an option is unknown, of another type or out of its range.
        """
        key = key or cls.group
        known = [option.name for option in fields(cls)]
        for name in options:
            if name not in known:
                its = f"its options: {', '.join(known)}" if known else "it has none"
                raise NstyleError(
                    f"{key}: {cls.name} has no option {name!r}{nearest(name, known)} ({its})"
                )
        return cls(**{name: cls._checked(key, name, value) for name, value in options.items()})

    def __post_init__(self) -> None:
        for option in fields(self):
            value = self._checked(self.group, option.name, getattr(self, option.name))
            object.__setattr__(self, option.name, value)

    @classmethod
    def _checked(cls, key: str, name: str, value: Any) -> Any:
        """Returns the value of an option as its type has it: 1 and 1.0 are one."""
        key, rules = f"{key}.{name}", cls.__dataclass_fields__[name].metadata
        if "allowed" in rules:
            return check_choice(key, value, rules["allowed"])
        if "range" not in rules:
            return value
        check_number(key, value, *rules["range"])
        if typing.get_type_hints(cls)[name] is float:
            return float(value)
        if value != int(value):
            raise NstyleError(f"{key}: {value} is not a whole number")
        return int(value)

    def try_out(self) -> None:
        """Computes an example, and refuses a record that breaks its contract with `NstyleError`."""

    def _check_finite(self, value: Any, slope: Any) -> None:
        """Refuses a loss whose example is not one finite number with a finite gradient."""
        if np.shape(value) != ():
            raise NstyleError(f"its loss has the shape {np.shape(value)}, and is to be one number")
        for told, found in (("loss", [value]), ("gradient", jax.tree.leaves(slope))):
            if not all(np.isfinite(leaf).all() for leaf in found):
                raise NstyleError(f"its {told} is not finite on an example")


def tried(record: Record, kind: type[Record]) -> None:
    """Tries a record out that is not this package's own, once.

    Args:
      record: what may be of another kind, or break the contract of its own.
      kind: what it is to be.

    Raises:
      NstyleError: the line names the record.
    """
    if not isinstance(record, kind):
        raise NstyleError(f"{kind.group}: {record!r} is not a {kind.__name__} of {kind.__module__}")
    try:
        if not record.is_built_in:
            _tried(record)
    except Exception as error:
        why = str(error).partition("\n")[0] or type(error).__name__
        raise NstyleError(f"{record.group}: {record.name} breaks its contract: {why}") from error


@functools.lru_cache(maxsize=64)
def _tried(record: Record) -> None:
    record.try_out()
