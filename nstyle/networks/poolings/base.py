"""What a pooling is: how a window of a map becomes one value."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from nstyle.arrays import Features
from nstyle.errors import NstyleError
from nstyle.records import Record, number

#: Positions between two windows.
STEP = 2


@dataclass(frozen=True)
class Pooling(Record):
    """A pooling.

    Attributes:
      scale: factor of the pooled map.
      is_local: whether a value depends on its own window alone, so that tiles are exact.
      is_homogeneous: whether a map times a positive number has that number times the pooled map, so
        that `rescale` leaves the network's function as it is.
      is_random: whether it draws by a key, see `drawn`.
      even_share: for a pooling whose slope does not depend on the size of what it pools: the share
        of a pooled value's slope that goes to each value which has any, without `scale`; tiles
        then keep one bit of each value. None where the slope is of the values themselves.
      memory_share: memory of an evaluation over `Architecture.evaluation_bytes`, measured; of one
        that does not say, that of the largest here.
    """

    group = "pooling"
    is_local: ClassVar[bool] = False
    is_homogeneous: ClassVar[bool] = False
    is_random: ClassVar[bool] = False
    even_share: ClassVar[float | None] = None
    memory_share: ClassVar[float] = 2.6
    scale: float = number(1.0, 1e-3, 1e3, traced=True)

    def reduced(self, x: Features, edge: int) -> Float[Array, "_ _ c"]:
        """Returns the pooled map, before `scale`.

        Args:
          x: features, none negative.
          edge: of the windows, in positions; they go by `STEP`, and a last row or column that
            fills none is dropped, as PyTorch does.
        """
        raise NotImplementedError

    def __call__(self, x: Features, edge: int) -> Float[Array, "_ _ c"]:
        """Returns the pooled map."""
        return self.scale * self.reduced(x, edge)

    def at(self, pool: int) -> "Pooling":
        """Returns the pooling of one of the network's pools, counted from 0."""
        return self

    def drawn(self, key: PRNGKeyArray) -> "Pooling":
        """Returns the pooling that draws by a key; itself where it draws nothing."""
        return self

    def check_pools(self, needed: int, most: int) -> None:
        """Refuses a network with so many pools before its deepest layer, and in all.

        Raises:
          NstyleError: naming both numbers.
        """

    def try_out(self) -> None:
        """Refuses a pooling that breaks this contract on an example, with `NstyleError`."""
        x = jax.random.uniform(jax.random.key(0), (6, 9, 4))
        pooled = self(x, 2)
        if pooled.shape != (3, 4, 4):
            raise NstyleError(f"it makes {pooled.shape} of {x.shape}, and is to make (3, 4, 4)")
        self._check_finite(jnp.sum(pooled), jax.grad(lambda x: jnp.sum(self(x, 2)))(x))


def windows(x: Features, edge: int) -> Float[Array, "k _ _ c"]:
    """Returns the values of each window, those of one place in all windows together."""
    rows, columns = (STEP * ((length - edge) // STEP) + 1 for length in x.shape[:2])
    return jnp.stack([
        x[top : top + rows : STEP, left : left + columns : STEP]
        for top in range(edge)
        for left in range(edge)
    ])  # fmt: skip
