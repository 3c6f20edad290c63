"""A pooling for each of the network's pools."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from nstyle.arrays import Features
from nstyle.errors import NstyleError
from nstyle.networks.poolings.base import Pooling
from nstyle.records import Record, records, tried


@dataclass(frozen=True)
class Each(Pooling):
    """One pooling for each pool, from the first; a single one is for all of them.

    Attributes:
      pools: the poolings.
    """

    name = "each"
    pools: tuple[Pooling, ...] = records()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "pools", tuple(self.pools))
        for own in self.pools:
            tried(own, Pooling)
        if not self.pools or any(isinstance(own, Each) for own in self.pools):
            raise NstyleError(
                "pooling.pools: give the poolings of the network's pools by their names"
            )

    @property
    def is_local(self) -> bool:  # type: ignore[override]  # of all of them
        """Whether all of them are."""
        return all(own.is_local for own in self.pools)

    @property
    def is_homogeneous(self) -> bool:  # type: ignore[override]
        """Whether all of them are."""
        return all(own.is_homogeneous for own in self.pools)

    @property
    def is_random(self) -> bool:  # type: ignore[override]
        """Whether any of them is."""
        return any(own.is_random for own in self.pools)

    @property
    def memory_share(self) -> float:  # type: ignore[override]
        """That of the largest."""
        return max(own.memory_share for own in self.pools)

    @property
    def parts(self) -> tuple[Record, ...]:
        """Itself and its poolings."""
        return (self, *self.pools)

    @property
    def numbers(self) -> dict[str, Any]:
        """Its scale, and the numbers of its poolings."""
        return super().numbers | {"pools": [own.numbers for own in self.pools]}

    @property
    def static(self) -> "Each":
        """The same with the numbers of its poolings at their defaults."""
        return dataclasses.replace(super().static, pools=tuple(own.static for own in self.pools))

    def bound(self, numbers: Mapping[str, Any]) -> "Each":
        """Returns the same with the numbers of its poolings."""
        given = numbers.get("pools", [{}] * len(self.pools))
        bound = tuple(own.bound(its) for own, its in zip(self.pools, given, strict=True))
        return super().bound({**numbers, "pools": bound})

    def drawn(self, key: PRNGKeyArray) -> "Each":
        """Returns the same, each pooling with a key of its own."""
        keys = jax.random.split(key, len(self.pools))
        return super().bound(
            {"pools": tuple(own.drawn(key) for own, key in zip(self.pools, keys, strict=True))}
        )

    def at(self, pool: int) -> Pooling:
        """Returns the pooling of one of the network's pools, times this one's scale."""
        own = self.pools[0 if len(self.pools) == 1 else pool].at(pool)
        return own.bound({"scale": self.scale * own.scale})

    def check_pools(self, needed: int, most: int) -> None:
        """Refuses another number of poolings than the network has pools."""
        if len(self.pools) > 1 and not needed <= len(self.pools) <= most:
            wanted = f"{needed}" if needed == most else f"{needed} to {most}"
            raise NstyleError(
                f"pooling: {len(self.pools)} poolings for {wanted} pools (give one for each, or one"
                " name for all)"
            )

    def reduced(self, x: Features, edge: int) -> Float[Array, "_ _ c"]:
        """Returns a map by the first pooling; a network asks for each by `at`."""
        return self.pools[0](x, edge)
