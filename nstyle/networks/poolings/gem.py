"""The generalised mean of each window, from the mean to the largest value."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nstyle.arrays import Features, Number
from nstyle.networks.poolings.base import Pooling, windows
from nstyle.records import number


@dataclass(frozen=True)
class GeM(Pooling):
    """The generalised mean, (mean x^p)^(1/p) (Radenovic, Tolias and Chum 2018, arXiv 1711.02512).

    Attributes:
      exponent: p. At 1 it is the mean, at 2 the root of the mean square, and the larger it is, the
        nearer to the largest value.
    """

    name = "gem"
    memory_share = 1.6
    is_local = True
    is_homogeneous = True
    exponent: float = number(3.0, 1.0, 1e6, traced=True)

    def reduced(self, x: Features, edge: int) -> Float[Array, "_ _ c"]:
        """Returns the generalised means."""
        return power_mean(windows(x, edge), self.exponent)


def power_mean(values: Float[Array, "k ..."], exponent: Number) -> Float[Array, "..."]:
    """Returns (mean x^p)^(1/p) over the first axis, of values that are not negative.

    Powers are of each window's values over its largest, so that none is infinite. A mean of zero is
    taken to be flat, where the root has no slope.
    """
    largest = jax.lax.stop_gradient(jnp.max(values, axis=0))  # the mean does not depend on it
    largest = jnp.where(largest > 0, largest, 1.0)
    shares = values / largest
    active = shares > 0
    logs = jnp.log(jnp.where(active, shares, 1.0))
    means = jnp.mean(jnp.where(active, jnp.exp(exponent * logs), 0.0), axis=0)
    some = means > 0
    roots = jnp.exp(jnp.log(jnp.where(some, means, 1.0)) / exponent)
    return jnp.where(some, largest * roots, 0.0)
