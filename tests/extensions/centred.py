"""A style loss of one's own: Gram matrices of features less their mean, over their lengths."""

from dataclasses import dataclass

import jax.numpy as jnp

from nstyle.losses import MomentLoss
from nstyle.records import number


@dataclass(frozen=True)
class Centred(MomentLoss):
    """Correlations of channels: covariances over the deviations of both channels.

    Attributes:
      floor: added to variances.
    """

    name = "centred"
    floor: float = number(1e-3, 1e-9)

    def of_moments(self, found, positions):
        """Returns the correlations."""
        deviations = jnp.sqrt(jnp.diagonal(found.covariance) + self.floor)
        return found.covariance / jnp.outer(deviations, deviations)

    def compare(self, found, target, pixels):
        """Returns the mean squared difference."""
        return jnp.mean(jnp.square(found - target))
