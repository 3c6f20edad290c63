"""The p-norm of each window."""

from dataclasses import dataclass

from jaxtyping import Array, Float

from nstyle.arrays import Features
from nstyle.networks.poolings.base import Pooling, windows
from nstyle.networks.poolings.gem import power_mean
from nstyle.records import number


@dataclass(frozen=True)
class Lp(Pooling):
    """The norm (sum x^p)^(1/p) (Sermanet, Chintala and LeCun 2012, arXiv 1204.3968).

    It is the generalised mean times the p-th root of the number of values: as large as the maximum,
    or larger.

    Attributes:
      exponent: p.
    """

    name = "lp"
    memory_share = 1.6
    is_local = True
    is_homogeneous = True
    exponent: float = number(2.0, 1.0, 1e6, traced=True)

    def reduced(self, x: Features, edge: int) -> Float[Array, "_ _ c"]:
        """Returns the norms."""
        count = float(edge * edge)
        return count ** (1.0 / self.exponent) * power_mean(windows(x, edge), self.exponent)
