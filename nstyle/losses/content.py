"""Content losses: how a layer's features of the generated picture and of the photograph differ.

The Euclidean distance compares features at the same position, so that what moves by a pixel costs
as much as what vanishes. The others compare relations between positions, sets of features, or
directions. Each is a function of F (h, w, c), of the generated picture, and P, of the content
picture, of the same shape. All are zero on identical features that are not constant, and have a
finite gradient everywhere. Those that compare all pairs of positions do so on a regular grid of at
most `samples`, so that their memory is that of a few matrices of `samples` squared.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nstyle.arrays import Features, Number, Points, Scalar, at_least_float32
from nstyle.losses.points import grid_sample, squared_distances, unit_rows
from nstyle.records import Record, choice, number

CONTENT_REDUCTIONS: dict[str, Callable[[Features], Scalar]] = {
    "half_sum": lambda squares: 0.5 * jnp.sum(squares),
    "sum": jnp.sum,
    "mean": jnp.mean,
}

#: What the loss at each position is multiplied by.
PositionWeights = Float[Array, "h w 1"] | float

#: Of the channels' mean variance, added to each one's, so that a dead channel does not count most.
VARIANCE_SHARE = 0.01

#: Added too, for a photograph without any features.
VARIANCE_FLOOR = 1e-6

#: Added to what distances are divided by (epsilon of Mechrez et al. 2018).
DISTANCE_FLOOR = 1e-5


@dataclass(frozen=True)
class ContentLoss(Record):
    """A content loss.

    Attributes:
      by_position: whether it is a sum over positions, which may have weights.
    """

    group = "content_loss"
    by_position: ClassVar[bool] = False

    def distance(
        self, features: Features, target: Features, weights: PositionWeights = 1.0
    ) -> Scalar:
        """Returns the loss of a layer.

        Args:
          features: F.
          target: P.
          weights: of the positions; other than 1 only where the loss is `by_position`.
        """
        raise NotImplementedError

    def square_share(self, shape: tuple[int, ...]) -> Scalar | None:
        """Returns the derivative of the loss by any of the squares (F - P)^2, for tiles.

        Args:
          shape: of F.

        Returns:
          None of a loss that is no multiple of their sum, which tiles cannot add up.
        """
        return None

    def try_out(self) -> None:
        """Refuses a loss that breaks this contract on an example, with `NstyleError`."""
        target = jax.random.uniform(jax.random.key(0), (6, 7, 4))
        for picture in (target, target[::-1] + 0.1):
            value, slope = jax.value_and_grad(lambda f: jnp.asarray(self.distance(f, target)))(
                picture
            )
            self._check_finite(value, slope)


@dataclass(frozen=True)
class Euclidean(ContentLoss):
    """Squared distance of features (Gatys et al. 2015, equation 1).

    Attributes:
      reduction: see `content_loss`.
    """

    name = "euclidean"
    by_position = True
    reduction: str = choice("mean", CONTENT_REDUCTIONS)

    def distance(
        self, features: Features, target: Features, weights: PositionWeights = 1.0
    ) -> Scalar:
        """Returns the squared distance."""
        return content_loss(
            at_least_float32(features), at_least_float32(target), self.reduction, weights
        )

    def square_share(self, shape: tuple[int, ...]) -> Scalar:
        """Returns what the reduction divides the sum by, inverted."""
        return _square_share(self.reduction, shape)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _square_share(reduction: str, shape: tuple[int, ...]) -> Scalar:
    # Compiled, so that neither the zeros nor the other derivatives ever exist.
    return jax.grad(CONTENT_REDUCTIONS[reduction])(jnp.zeros(shape))[0, 0, 0]


@dataclass(frozen=True)
class Rescaled(ContentLoss):
    """Squared distance in parts of each channel's variance over P.

    A channel counts by how much it varies in the photograph, not by how large its numbers are.

    Attributes:
      reduction: see `content_loss`.
    """

    name = "rescaled"
    by_position = True
    reduction: str = choice("mean", CONTENT_REDUCTIONS)

    def distance(
        self, features: Features, target: Features, weights: PositionWeights = 1.0
    ) -> Scalar:
        """Returns the squared distance in parts of the variances."""
        return rescaled_distance(
            at_least_float32(features), at_least_float32(target), self.reduction, weights
        )


@dataclass(frozen=True)
class Cosine(ContentLoss):
    """Mean cosine distance of features at the same position, each less its picture's mean."""

    name = "cosine"

    def distance(
        self, features: Features, target: Features, weights: PositionWeights = 1.0
    ) -> Scalar:
        """Returns the mean distance."""
        return cosine_distance(at_least_float32(features), at_least_float32(target))


@dataclass(frozen=True)
class SelfSimilarity(ContentLoss):
    """Differences of the pictures' own cosine distances between positions (STROTSS, equation 8).

    Kolkin et al. 2019 (arXiv 1904.12785): each column of distances over its sum; here the sum of a
    column's absolute differences, averaged over columns, the paper's times the number of
    positions. What F is made of does not count, only what is like what.

    Attributes:
      samples: most positions, on a grid.
    """

    name = "self_similarity"
    samples: int = number(1024, 1, 16384)

    def distance(
        self, features: Features, target: Features, weights: PositionWeights = 1.0
    ) -> Scalar:
        """Returns the difference of distances among grid positions."""
        return self_similarity(
            grid_sample(features, self.samples), grid_sample(target, self.samples)
        )


@dataclass(frozen=True)
class Contextual(ContentLoss):
    """-log of the contextual similarity (Mechrez et al. 2018, arXiv 1803.02077, equations 2 to 5).

    For each feature of P the best of F, wherever it is, by cosine distance of features less P's
    mean. Constant features are all alike: their distance to themselves is the log of their number.

    Attributes:
      bandwidth: h, how sharply the best one stands out.
      samples: most positions, on a grid.
    """

    name = "contextual"
    bandwidth: float = number(0.1, 1e-6, traced=True)
    samples: int = number(1024, 1, 16384)

    def distance(
        self, features: Features, target: Features, weights: PositionWeights = 1.0
    ) -> Scalar:
        """Returns the loss of grid positions."""
        return contextual(
            grid_sample(features, self.samples), grid_sample(target, self.samples), self.bandwidth
        )


def content_loss(
    features: Features,
    target: Features,
    reduction: str = "half_sum",
    weights: PositionWeights = 1.0,
) -> Scalar:
    """Returns the squared distance between two feature maps (Gatys et al. 2015, equation 1).

    Args:
      features: F, of the generated picture.
      target: P, of the content picture, of the same shape.
      reduction: `half_sum`, 1/2 sum (F - P)^2, as in the paper; `sum`; or `mean` over positions
        and channels, which does not change with the size of the picture.
      weights: what the square at each position is multiplied by; a mean is still over all.
    """
    return CONTENT_REDUCTIONS[reduction](weights * jnp.square(features - target))


def rescaled_distance(
    features: Features,
    target: Features,
    reduction: str = "mean",
    weights: PositionWeights = 1.0,
) -> Scalar:
    """Returns the squared distance in parts of the target's variances; see `Rescaled`."""
    variance = jnp.var(target, axis=(0, 1))
    variance += VARIANCE_SHARE * jnp.mean(variance) + VARIANCE_FLOOR
    return CONTENT_REDUCTIONS[reduction](weights * jnp.square(features - target) / variance)


def cosine_distance(features: Features, target: Features) -> Scalar:
    """Returns the mean cosine distance at the same position; see `Cosine`."""
    rows, others = (
        unit_rows((of - jnp.mean(of, axis=(0, 1))).reshape(-1, of.shape[-1]))
        for of in (features, target)
    )
    return jnp.mean(0.5 * jnp.sum(jnp.square(rows - others), axis=1))


def self_similarity(points: Points, target: Points) -> Scalar:
    """Returns how the distances among points differ from those among target's; see the class."""

    def shares(of: Points) -> Float[Array, "n n"]:
        rows = unit_rows(of)
        distances = 0.5 * squared_distances(rows, rows)
        return distances / (jnp.sum(distances, axis=0) + DISTANCE_FLOOR)

    return jnp.mean(jnp.sum(jnp.abs(shares(points) - shares(target)), axis=0))


def contextual(points: Points, target: Points, bandwidth: Number = 0.1) -> Scalar:
    """Returns -log of the contextual similarity; see `Contextual`."""
    mean = jnp.mean(target, axis=0)
    distances = 0.5 * squared_distances(unit_rows(points - mean), unit_rows(target - mean))
    relative = distances / (jnp.min(distances, axis=1, keepdims=True) + DISTANCE_FLOOR)
    log_similarity = jax.nn.log_softmax(-relative / bandwidth, axis=1)
    best = jnp.max(log_similarity, axis=0)
    return jnp.log(float(len(best))) - jax.nn.logsumexp(best)
