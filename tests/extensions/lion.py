"""A solver of one's own, from optax."""

from dataclasses import dataclass

import optax

from nstyle.records import number
from nstyle.solvers import FirstOrder


@dataclass(frozen=True)
class Lion(FirstOrder):
    """Lion (Chen et al. 2023, arXiv 2302.06675).

    Attributes:
      learning_rate: in the units of the picture's pixels.
    """

    name = "lion"
    learning_rate: float = number(0.01, 1e-12)

    def transformation(self):
        """Returns optax's own."""
        return optax.lion(self.learning_rate)
