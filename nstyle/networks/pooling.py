"""Poolings: how a window of a map becomes one value."""

from dataclasses import dataclass
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

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
      even_share: for a pooling whose slope does not depend on the size of what it pools: the share
        of a pooled value's slope that goes to each value which has any, without `scale`; tiles
        then keep one bit of each value. None where the slope is of the values themselves.
    """

    group = "pooling"
    is_local: ClassVar[bool] = False
    even_share: ClassVar[float | None] = None
    scale: float = number(1.0, 1e-3, 1e3)

    def reduced(self, x: Features, edge: int) -> Float[Array, "_ _ c"]:
        """Returns the pooled map, before `scale`.

        Args:
          x: features.
          edge: of the windows, in positions; they go by `STEP`, and a last row or column that
            fills none is dropped, as PyTorch does.
        """
        raise NotImplementedError

    def __call__(self, x: Features, edge: int) -> Float[Array, "_ _ c"]:
        """Returns the pooled map."""
        pooled = self.reduced(x, edge)
        return pooled if self.scale == 1.0 else self.scale * pooled

    def try_out(self) -> None:
        """Refuses a pooling that breaks this contract on an example, with `NstyleError`."""
        x = jax.random.uniform(jax.random.key(0), (6, 9, 4))
        pooled = self(x, 2)
        if pooled.shape != (3, 4, 4):
            raise NstyleError(f"it makes {pooled.shape} of {x.shape}, and is to make (3, 4, 4)")
        self._check_finite(jnp.sum(pooled), jax.grad(lambda x: jnp.sum(self(x, 2)))(x))


@dataclass(frozen=True)
class Average(Pooling):
    """The mean of each window (Gatys et al. 2015, section 2)."""

    name = "avg"
    is_local = True
    even_share = 0.25

    def reduced(self, x: Features, edge: int) -> Float[Array, "_ _ c"]:
        """Returns the means."""
        return nn.avg_pool(x, (edge, edge), (STEP, STEP))


@dataclass(frozen=True)
class Maximum(Pooling):
    """The largest value of each window, as every network here was trained."""

    name = "max"
    is_local = True
    even_share = 1.0

    def reduced(self, x: Features, edge: int) -> Float[Array, "_ _ c"]:
        """Returns the maxima."""
        return nn.max_pool(x, (edge, edge), (STEP, STEP))


@dataclass(frozen=True)
class L2(Pooling):
    """The root of the mean square of each window.

    Its scale makes maps as large as those of max pooling, with which the networks were trained: the
    mean over max pooling's is 1.42, 1.59, 1.64 and 1.63 for the four pools of VGG-16 on photographs
    (geometric mean 1.57; 2.03 for `avg`, which is as in the papers).
    """

    name = "l2"
    is_local = True
    scale: float = number(1.57, 1e-3, 1e3)

    def reduced(self, x: Features, edge: int) -> Float[Array, "_ _ c"]:
        """Returns the roots; at zero, where a root has no slope, it is taken to be flat."""
        squares = nn.avg_pool(jnp.square(x), (edge, edge), (STEP, STEP))
        active = squares > 0
        return jnp.where(active, jnp.sqrt(jnp.where(active, squares, 1.0)), 0.0)
