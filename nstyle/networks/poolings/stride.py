"""No pooling: the first value of each window."""

from dataclasses import dataclass

from jaxtyping import Array, Float

from nstyle.arrays import Features
from nstyle.networks.poolings.base import STEP, Pooling


@dataclass(frozen=True)
class Stride(Pooling):
    """The value in each window's upper left corner (Springenberg et al. 2015, arXiv 1412.6806)."""

    name = "stride"
    memory_share = 1.0
    is_local = True
    is_homogeneous = True
    even_share = 1.0

    def reduced(self, x: Features, edge: int) -> Float[Array, "_ _ c"]:
        """Returns every other value of every other row."""
        rows, columns = (STEP * ((length - edge) // STEP) + 1 for length in x.shape[:2])
        return x[:rows:STEP, :columns:STEP]
