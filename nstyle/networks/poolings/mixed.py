"""A mixture of the mean and the largest value of each window."""

from dataclasses import dataclass

import flax.linen as nn
from jaxtyping import Array, Float

from nstyle.arrays import Features
from nstyle.networks.poolings.base import STEP, Pooling
from nstyle.records import number


@dataclass(frozen=True)
class Mixed(Pooling):
    """a max + (1 - a) mean (Lee, Gallagher and Tu 2016, arXiv 1509.08985, equation 1).

    Attributes:
      share: a, of the largest value.
    """

    name = "mixed"
    memory_share = 1.4
    is_local = True
    is_homogeneous = True
    share: float = number(0.5, 0.0, 1.0, traced=True)

    def reduced(self, x: Features, edge: int) -> Float[Array, "_ _ c"]:
        """Returns the mixtures."""
        window, step = (edge, edge), (STEP, STEP)
        largest, mean = nn.max_pool(x, window, step), nn.avg_pool(x, window, step)
        return self.share * largest + (1.0 - self.share) * mean
