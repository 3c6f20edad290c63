"""The mean of each window."""

from dataclasses import dataclass

import flax.linen as nn
from jaxtyping import Array, Float

from nstyle.arrays import Features
from nstyle.networks.poolings.base import STEP, Pooling


@dataclass(frozen=True)
class Average(Pooling):
    """The mean of each window (Gatys et al. 2015, section 2)."""

    name = "avg"
    memory_share = 1.0
    is_local = True
    is_homogeneous = True
    even_share = 0.25

    def reduced(self, x: Features, edge: int) -> Float[Array, "_ _ c"]:
        """Returns the means."""
        return nn.avg_pool(x, (edge, edge), (STEP, STEP))
