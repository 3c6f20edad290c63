"""The root of the mean square of each window."""

from dataclasses import dataclass

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from nstyle.arrays import Features
from nstyle.networks.poolings.base import STEP, Pooling
from nstyle.records import number


@dataclass(frozen=True)
class L2(Pooling):
    """The root of the mean square of each window.

    Its scale makes maps as large as those of max pooling, with which the networks were trained: the
    mean over max pooling's is 1.42, 1.59, 1.64 and 1.63 for the four pools of VGG-16 on photographs
    (geometric mean 1.57; 2.03 for `avg`, which is as in the papers).
    """

    name = "l2"
    memory_share = 1.0
    is_local = True
    is_homogeneous = True
    scale: float = number(1.57, 1e-3, 1e3, traced=True)

    def reduced(self, x: Features, edge: int) -> Float[Array, "_ _ c"]:
        """Returns the roots; at zero, where a root has no slope, it is taken to be flat."""
        squares = nn.avg_pool(jnp.square(x), (edge, edge), (STEP, STEP))
        active = squares > 0
        return jnp.where(active, jnp.sqrt(jnp.where(active, squares, 1.0)), 0.0)
