"""A value of each window, drawn by how large it is."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from nstyle.arrays import Features
from nstyle.networks.poolings.base import Pooling, windows


@dataclass(frozen=True)
class Stochastic(Pooling):
    """x_i with the probability x_i / sum x (Zeiler and Fergus 2013, arXiv 1301.3557, equation 4).

    A solver that needs one function has one draw for the whole run; others draw afresh each step,
    the photograph's and the painting's features by the run's first draw.
    """

    name = "stochastic"
    is_homogeneous = True
    is_random = True

    @property
    def key(self) -> PRNGKeyArray:
        """What it draws by: one key unless `drawn` gave another."""
        return self.__dict__.get("_key", jax.random.key(0))

    def drawn(self, key: PRNGKeyArray) -> "Stochastic":
        """Returns the pooling that draws by another key."""
        return self.bound({"_key": key})

    def at(self, pool: int) -> "Stochastic":
        """Returns the pooling with a key of one of the network's pools."""
        return self.drawn(jax.random.fold_in(self.key, pool))

    def reduced(self, x: Features, edge: int) -> Float[Array, "_ _ c"]:
        """Returns the drawn values; zero where a window has nothing else."""
        values = windows(x, edge)
        up_to = jnp.cumsum(values, axis=0)
        threshold = up_to[-1] * jax.random.uniform(self.key, values.shape[1:], values.dtype)
        chosen = jnp.argmax(up_to > threshold, axis=0)  # the first one; of no values any
        return jnp.take_along_axis(values, chosen[None], axis=0)[0]
