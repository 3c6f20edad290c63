"""Records: what poolings, losses, solvers and scores are made of.

Each is one frozen dataclass in one file, which answers all that the rest asks of its kind. Its
fields are its options, each with its range beside it, so that a value is refused with one line
wherever it comes from: a command, a YAML file or Python.
"""

import functools
import math
import typing
from collections.abc import Collection
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import jax
import numpy as np

from nstyle.errors import NstyleError, check_choice

#: Numbers are float32 in the losses: what is larger would be infinite there.
LARGEST = 3e38


def number(default: float, low: float, high: float = math.inf) -> Any:
    """Returns the field of a number from `low` to `high`; of whole ones where it is an `int`."""
    return field(default=default, metadata={"range": (low, high)})


def choice(default: str, allowed: Collection[str]) -> Any:
    """Returns the field of a text that is one of `allowed`."""
    return field(default=default, metadata={"allowed": tuple(allowed)})


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

    def __post_init__(self) -> None:
        types = typing.get_type_hints(type(self))
        for option in fields(self):
            key, value = f"{self.group}.{option.name}", getattr(self, option.name)
            if "allowed" in option.metadata:
                check_choice(key, value, option.metadata["allowed"])
            if "range" in option.metadata:
                check_number(key, value, *option.metadata["range"])
                if types[option.name] is float:
                    object.__setattr__(self, option.name, float(value))  # 1 and 1.0 are one
                elif types[option.name] is int and value != int(value):
                    raise NstyleError(f"{key}: {value} is not a whole number")

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
