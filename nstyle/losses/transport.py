"""Style losses that match points: by sliced transport, histograms and nearest neighbours."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from nstyle.arrays import Features, Points, Scalar, matrix_product
from nstyle.losses.points import grid_sample, points_of, unit_rows
from nstyle.losses.style import StyleLoss
from nstyle.records import number

#: Most pairs of positions that a search for neighbours compares at a time.
PAIRS_AT_A_TIME = 2**22


@dataclass(frozen=True)
class SlicedWasserstein(StyleLoss):
    """Sliced Wasserstein-2 distance (Heitz et al. 2021, arXiv 2006.07229, equation 4).

    The mean over random directions, drawn by the key, of the squared differences of sorted
    projections. Where S has another number of positions its quantiles are interpolated.

    Attributes:
      directions: how many.
    """

    name = "sliced_wasserstein"
    is_random = True
    directions: int = number(64, 1, 4096)

    def statistic(self, features: Features) -> Points:
        """Returns all points."""
        return points_of(features)

    def distance(
        self, features: Features, target: Points, key: PRNGKeyArray, pixels: int
    ) -> Scalar:
        """Returns the distance along drawn directions."""
        directions = random_directions(key, self.directions, target.shape[1])
        return sliced_wasserstein(points_of(features), target, directions)


@dataclass(frozen=True)
class Histogram(StyleLoss):
    """Distance to features whose channels have S's histograms (Risser et al. 2017, 1701.08893).

    Mean of (F - R(F))^2 with R the matching of each channel's histogram. Matching is by rank, the
    limit of many bins, so that it is the Wasserstein-2 distance of single channels.
    """

    name = "histogram"

    def statistic(self, features: Features) -> Float[Array, "c n"]:
        """Returns each channel's values in order."""
        return jnp.sort(points_of(features).T)

    def distance(
        self, features: Features, target: Float[Array, "c m"], key: PRNGKeyArray, pixels: int
    ) -> Scalar:
        """Returns the mean over channels of their transport."""
        return transport(points_of(features).T, target)


@dataclass(frozen=True)
class Sampled(StyleLoss):
    """A style loss in which only some positions of S take part, on a regular grid.

    Attributes:
      samples: most of them.
    """

    samples: int = number(1024, 1, 16384)

    def statistic(self, features: Features) -> Points:
        """Returns the points of S that take part."""
        return grid_sample(features, self.samples)


@dataclass(frozen=True)
class NearestNeighbour(Sampled):
    """Cosine distance of each of F to the nearest of S (Kolkin et al. 2022, NNST, 2203.13215).

    The nearest by cosine distance of features less their picture's mean, as in the paper; the
    distance itself is of the features as they are. Of single layers, where the paper joins layers
    to one vector. The samples of S are the candidates; with fewer positions in S than that,
    identical features have no distance.
    """

    name = "nnst"

    def distance(
        self, features: Features, target: Points, key: PRNGKeyArray, pixels: int
    ) -> Scalar:
        """Returns the mean distance to the nearest."""
        return nearest_neighbour(points_of(features), target)


@dataclass(frozen=True)
class RelaxedEMD(Sampled):
    """Relaxed earth mover's distance by cosine (Kolkin et al. 2019, STROTSS, 1904.12785, eq. 5).

    The larger of two means: distances of each of F to the nearest of S, and the other way round. Of
    single layers, without the paper's terms for moments and colours. All of F takes part.
    """

    name = "remd"

    def distance(
        self, features: Features, target: Points, key: PRNGKeyArray, pixels: int
    ) -> Scalar:
        """Returns the larger of the two means."""
        return relaxed_emd(points_of(features), target)


def random_directions(key: PRNGKeyArray, count: int, channels: int) -> Float[Array, "k c"]:
    """Returns unit vectors, uniform on the sphere."""
    return unit_rows(jax.random.normal(key, (count, channels)))


def sliced_wasserstein(
    points: Points, target: Float[Array, "m c"], directions: Float[Array, "k c"]
) -> Scalar:
    """Returns the mean over directions of the squared Wasserstein-2 distance of projections."""
    projected, wanted = (matrix_product(directions, of.T) for of in (points, target))
    return transport(projected, jnp.sort(wanted))


def transport(values: Float[Array, "k n"], target: Float[Array, "k m"]) -> Scalar:
    """Returns the mean over rows of the squared Wasserstein-2 distance of rows of numbers.

    Args:
      values: in any order.
      target: sorted. Its quantiles, interpolated linearly at the levels (i + 1/2) / n, take the
        place of its values; for n = m they are those.
    """
    levels = _levels(values.shape[1], target.shape[1])
    below = np.floor(levels).astype(np.int32)
    above = np.minimum(below + 1, target.shape[1] - 1)
    share = jnp.asarray(levels - below, target.dtype)
    quantiles = (1.0 - share) * target[:, below] + share * target[:, above]
    return jnp.mean(jnp.square(jnp.sort(values) - quantiles))


def _levels(count: int, of: int) -> np.ndarray:
    """Returns where, in the order of `of` values, the levels (i + 1/2) / count lie."""
    return np.clip((np.arange(count) + 0.5) * of / count - 0.5, 0, of - 1)


def nearest_neighbour(points: Points, target: Float[Array, "m c"]) -> Scalar:
    """Returns the mean cosine distance of `points` to the nearest of `target`; see the class."""
    matched = _nearest(*(unit_rows(of - jnp.mean(of, axis=0)) for of in (points, target)))
    return _mean_distance(unit_rows(points), unit_rows(target)[matched])


def relaxed_emd(points: Points, target: Float[Array, "m c"]) -> Scalar:
    """Returns the larger of the mean cosine distances to the nearest, either way round."""
    rows, columns = unit_rows(points), unit_rows(target)
    there = _mean_distance(rows, columns[_nearest(rows, columns)])
    back = _mean_distance(columns, rows[_nearest(columns, rows)])
    return jnp.maximum(there, back)


def _mean_distance(first: Points, second: Points) -> Scalar:
    # The cosine distance of unit vectors; 0 for two vectors of zero.
    return jnp.mean(0.5 * jnp.sum(jnp.square(first - second), axis=1))


def _nearest(rows: Points, columns: Float[Array, "m c"]) -> Int[Array, " n"]:
    """Returns for each row the number of the nearest column.

    A few rows at a time, so that memory is bounded. Which one is nearest has no slope, so the
    search has no gradient, and of its pairs nothing is kept.
    """
    rows, columns = jax.lax.stop_gradient((rows, columns))
    halves = 0.5 * jnp.sum(jnp.square(columns), axis=1)

    def search(row: Float[Array, " c"]) -> Int[Array, ""]:
        return jnp.argmax(columns @ row - halves)

    return jax.lax.map(search, rows, batch_size=max(1, PAIRS_AT_A_TIME // len(columns)))
