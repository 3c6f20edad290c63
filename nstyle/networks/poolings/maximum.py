"""The largest value of each window."""

from dataclasses import dataclass

import flax.linen as nn
from jaxtyping import Array, Float

from nstyle.arrays import Features
from nstyle.networks.poolings.base import STEP, Pooling


@dataclass(frozen=True)
class Maximum(Pooling):
    """The largest value of each window, as every network here was trained."""

    name = "max"
    memory_share = 1.0
    is_local = True
    is_homogeneous = True
    even_share = 1.0

    def reduced(self, x: Features, edge: int) -> Float[Array, "_ _ c"]:
        """Returns the maxima."""
        return nn.max_pool(x, (edge, edge), (STEP, STEP))
