"""A style loss of one's own: the angle between the Gram matrices of two pictures."""

from dataclasses import dataclass

import jax.numpy as jnp

from nstyle.losses import StyleLoss, gram_matrix


@dataclass(frozen=True)
class Angle(StyleLoss):
    """1 minus the cosine of two Gram matrices, which knows nothing of how strong features are."""

    name = "angle"

    def statistic(self, features):
        """Returns the Gram matrix over its length."""
        gram = gram_matrix(features)
        return gram / jnp.sqrt(jnp.sum(jnp.square(gram)) + 1e-12)

    def compare(self, found, target, pixels):
        """Returns half the squared distance of unit matrices."""
        return 0.5 * jnp.sum(jnp.square(found - target))
