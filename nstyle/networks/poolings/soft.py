"""The mean of each window, weighted by the softmax of its values."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nstyle.arrays import Features
from nstyle.networks.poolings.base import Pooling, windows
from nstyle.records import number


@dataclass(frozen=True)
class Soft(Pooling):
    """sum_i w_i x_i with w = softmax(x / T) (Stergiou et al. 2021, arXiv 2101.00440).

    It depends on how large features are: with T far above them it is the mean, far below the
    largest value.

    Attributes:
      temperature: T, in the units of the features; 1 in the paper.
    """

    name = "soft"
    memory_share = 1.9
    is_local = True
    temperature: float = number(1.0, 1e-6, 1e6, traced=True)

    def reduced(self, x: Features, edge: int) -> Float[Array, "_ _ c"]:
        """Returns the weighted means."""
        values = windows(x, edge)
        return jnp.sum(jax.nn.softmax(values / self.temperature, axis=0) * values, axis=0)
