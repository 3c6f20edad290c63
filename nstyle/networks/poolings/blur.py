"""The largest value of every window, blurred before every other one is taken."""

from dataclasses import dataclass

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from nstyle.arrays import Features
from nstyle.networks.poolings.base import STEP, Pooling


@dataclass(frozen=True)
class Blur(Pooling):
    """Anti-aliased max pooling (Zhang 2019, arXiv 1904.11486): MaxBlurPool with a filter of 3.

    The largest value of windows that go by one position, mirrored at the border, blurred by
    [1, 2, 1] / 4 in both directions, every other position of that. A value depends on its
    neighbours' windows, which tiles do not see.
    """

    name = "blur"
    memory_share = 2.6
    is_homogeneous = True

    def reduced(self, x: Features, edge: int) -> Float[Array, "_ _ c"]:
        """Returns the blurred maxima."""
        dense = nn.max_pool(x, (edge, edge), (1, 1))
        for axis in (0, 1):
            size = dense.shape[axis]
            around = [(1, 1) if axis == own else (0, 0) for own in range(3)]
            padded = jnp.pad(dense, around, "reflect" if size > 1 else "edge")
            left, middle, right = (
                jnp.take(padded, jnp.arange(shift, shift + size, STEP), axis=axis)
                for shift in range(3)
            )
            dense = 0.25 * left + 0.5 * middle + 0.25 * right
        return dense
