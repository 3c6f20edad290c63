"""What a style loss is: what it takes of a layer's features, and how two pictures compare by it.

F are the features (positions x channels) of the generated picture, S those of the style picture,
which may be of another size. Distances are zero on identical features, with a finite gradient
everywhere, also where features are constant, zero or have one position.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from nstyle.arrays import FeatureMaps, Features, PyTree, Scalar, matrix_product
from nstyle.losses.points import points_of
from nstyle.records import Record


@dataclass(frozen=True)
class StyleLoss(Record):
    """A style loss: `statistic` makes the target of a layer, `compare` says how far off it is.

    Attributes:
      is_random: whether `distance` reads its key.
      by_moments: whether the statistic depends on the moments of the features alone, so that
        `of_moments` gives it too: what tiles and regions need.
    """

    group = "style_loss"

    @property
    def is_random(self) -> bool:
        """See the class."""
        return False

    @property
    def by_moments(self) -> bool:
        """See the class."""
        return False

    def statistic(self, features: PyTree) -> PyTree:
        """Returns the target of a layer, a pytree.

        Args:
          features: S of height h, width w and c channels, or what `looked_at` makes of them.
        """
        raise NotImplementedError

    def compare(self, found: PyTree, target: PyTree, pixels: int) -> Scalar:
        """Returns the loss of a layer from the statistics of both pictures.

        Args:
          found: of the generated picture.
          target: of the style picture.
          pixels: height times width of the generated picture.
        """
        raise NotImplementedError

    def distance(self, features: PyTree, target: PyTree, key: PRNGKeyArray, pixels: int) -> Scalar:
        """Returns the loss of a layer: by default the two statistics compared.

        Args:
          features: F, like `statistic`'s.
          target: from `statistic`.
          key: for random numbers, another for each step of a first-order solver.
          pixels: height times width of the generated picture.
        """
        return self.compare(self.statistic(features), target, pixels)

    def of_moments(self, found: "Moments", positions: int) -> PyTree:
        """Returns the statistic from the moments of a layer with so many positions.

        Args:
          found: of the features.
          positions: of the layer.
        """
        raise NotImplementedError

    def of_region(self, features: Features, guidance: Float[Array | np.ndarray, "h w"]) -> PyTree:
        """Returns the statistic of a region, as if it filled the picture.

        For the Gram matrix the guided one of Gatys et al. 2017 (arXiv 1611.07865, equations 5 and
        6), sum_i T_i^2 f_i f_i^T with sum_i T_i^2 = 1, times the number of positions; so that
        regions of different extents compare with each other and with whole pictures.

        Args:
          features: of the whole picture.
          guidance: T^2, what each position counts; sums to 1.
        """
        points, share = points_of(features), jnp.reshape(guidance, (-1, 1))
        mean = jnp.sum(share * points, axis=0)
        centred = points - mean
        covariance = matrix_product((share * centred).T, centred)
        return self.of_moments(Moments(mean, covariance), len(points))

    def looked_at(self, features: FeatureMaps, layers: tuple[str, ...]) -> dict[str, PyTree]:
        """Returns what `statistic` is given for each layer: by default its features.

        Args:
          features: by layer.
          layers: the style layers, from the shallowest.
        """
        return {layer: features[layer] for layer in layers}

    def check_layers(self, layers: tuple[str, ...]) -> None:
        """Refuses style layers that the loss cannot work with.

        Raises:
          NstyleError: naming them.
        """

    def try_out(self) -> None:
        """Refuses a loss that breaks this contract on an example, with `NstyleError`."""
        key = jax.random.key(0)
        shapes = {"conv1_1": (6, 7, 4), "conv1_2": (6, 7, 4)}
        features = {name: jax.random.uniform(key, shape) for name, shape in shapes.items()}

        def loss(features: FeatureMaps) -> Scalar:
            seen = self.looked_at(features, tuple(shapes))
            return jnp.asarray(self.distance(seen["conv1_2"], target, key, 42))

        target = self.statistic(self.looked_at(features, tuple(shapes))["conv1_2"])
        other = jax.tree.map(lambda own: own[::-1] + 0.1, features)
        for picture in (features, other):
            self._check_finite(loss(picture), jax.grad(loss)(picture))


@dataclass(frozen=True)
class MomentLoss(StyleLoss):
    """A style loss that knows nothing of the features but their moments."""

    by_moments = True

    def statistic(self, features: Features) -> PyTree:
        """Returns the target of a layer from its features (h, w, c)."""
        return self.of_moments(moments(features), math.prod(features.shape[:2]))


class Moments(NamedTuple):
    """Mean and covariance of features, over the number of positions."""

    mean: Float[Array, " c"]
    covariance: Float[Array, "c c"]


def moments(features: Features) -> Moments:
    """Returns the mean and the covariance of features over their positions."""
    points = points_of(features)
    mean = jnp.mean(points, axis=0)
    centred = points - mean
    return Moments(mean, matrix_product(centred.T, centred) / len(points))


def mean_squares(found: Float[Array, "... c"], target: Float[Array, "... c"]) -> Scalar:
    """Returns the sum of squared differences over the number of channels."""
    return jnp.sum(jnp.square(found - target)) / found.shape[-1]
