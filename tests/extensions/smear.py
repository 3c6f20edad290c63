"""A pooling of one's own: the maximum of each window, blurred before every second is taken."""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp

from nstyle.networks import Pooling


@dataclass(frozen=True)
class Smear(Pooling):
    """Anti-aliased max pooling (Zhang 2019, arXiv 1904.11486), with the filter 1 2 1."""

    name = "smear"

    def reduced(self, x, edge):
        """Returns the maxima at every position, weighted by 1 2 1 in both directions."""
        rows, columns, channels = x.shape
        largest = nn.max_pool(x, (edge, edge), (1, 1), padding="SAME")
        line = jnp.array([1.0, 2.0, 1.0])
        kernel = jnp.outer(line, line)[:, :, None, None] / 16
        blurred = jax.lax.conv_general_dilated(
            largest[None].astype(jnp.float32),
            jnp.tile(kernel, (1, 1, 1, channels)),
            (2, 2),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=channels,
        )[0]
        return blurred[: (rows - edge) // 2 + 1, : (columns - edge) // 2 + 1]
