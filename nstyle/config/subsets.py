"""Which subsets of some parts a sweep tries: all of them, or those along random orders.

The value of a part is what it adds to the parts before it, averaged over all orders (Shapley 1953).
Where there are too many subsets, random orders stand for all of them (Castro, Gomez and Tejada
2009): each is tried with its reverse, which leaves the mean unbiased and makes it vary less.
"""

import re

import numpy as np

from nstyle.errors import NstyleError

#: Most parts of which all subsets are tried: 4096 of them.
MOST_PARTS = 12

_SUBSETS = re.compile(
    r"subsets\(\s*(?P<out>[\w.-]+)\s*,\s*(?P<within>[\w.-]+)\s*,\s*(?P<count>\d+)\s*"
    r"(?:,\s*samples\s*=\s*(?P<samples>\d+)\s*)?\)"
)


def spelt_out(value: str) -> str:
    """Returns `subsets(0,1,3)` as the lists that it stands for, other values as they are.

    `subsets(OUT, IN, COUNT)` is every list of COUNT entries that are OUT or IN, and with
    `samples=N` those along N random orders.

    Raises:
      NstyleError: there are too many, or none.
    """
    if not value.startswith("subsets("):
        return value
    match = _SUBSETS.fullmatch(value)
    if not match:
        raise NstyleError(
            f"{value}: write subsets(OUT,IN,COUNT), as subsets(0,1,5), or with samples=N behind"
        )
    count = int(match["count"])
    samples = None if match["samples"] is None else int(match["samples"])
    if count < 1 or samples == 0 or match["out"] == match["within"]:
        raise NstyleError(f"{value}: give two entries, and one part and one sample or more")
    if samples is None and not 1 <= count <= MOST_PARTS:
        raise NstyleError(
            f"{value}: all subsets of 1 to {MOST_PARTS} parts can be tried; add samples=20 for"
            " those along random orders"
        )
    found = subsets(count, samples)
    lists = (
        ",".join(match["within"] if part in subset else match["out"] for part in range(count))
        for subset in found
    )
    return ",".join(f"[{entries}]" for entries in lists)


def subsets(count: int, samples: int | None = None) -> list[frozenset[int]]:
    """Returns subsets of the parts 0, 1, ...: all, or those along so many random orders."""
    if samples is None:
        return [
            frozenset(part for part in range(count) if number >> part & 1)
            for number in range(2**count)
        ]
    along = (
        frozenset(order[:length]) for order in orders(count, samples) for length in range(count + 1)
    )
    return list(dict.fromkeys(along))


def orders(count: int, samples: int) -> list[tuple[int, ...]]:
    """Returns random orders of the parts 0, 1, ..., each followed by its reverse; always the same.

    Fewer of them are the first of more.
    """
    generator = np.random.default_rng(0)
    drawn = (tuple(generator.permutation(count).tolist()) for _ in range(-(-samples // 2)))
    return [order for own in drawn for order in (own, own[::-1])][:samples]
