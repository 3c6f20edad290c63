"""Style losses of the features' moments: mean and standard deviation, MMD, Wasserstein-2."""

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from nstyle.arrays import Features, Gram, Number, Points, PyTree, Scalar, matrix_product
from nstyle.losses.points import points_of, squared_distances
from nstyle.losses.style import MomentLoss, Moments, StyleLoss, mean_squares, moments
from nstyle.records import choice, number

#: Added to variances before their root, whose slope at zero is infinite.
VARIANCE_FLOOR = 1e-8


@dataclass(frozen=True)
class MeanStd(MomentLoss):
    """Mean and standard deviation of each channel (Li et al. 2017, arXiv 1701.01036, equation 12).

    The mean over channels of (mu_F - mu_S)^2 + (sigma_F - sigma_S)^2.
    """

    name = "mean_std"

    def of_moments(self, found: Moments, positions: int) -> Float[Array, "2 c"]:
        """Returns means and standard deviations."""
        variance = jnp.maximum(jnp.diagonal(found.covariance), 0.0)
        return jnp.stack([found.mean, jnp.sqrt(variance + VARIANCE_FLOOR)])

    def compare(self, found: Array, target: Array, pixels: int) -> Scalar:
        """Returns the mean over channels of the squared differences."""
        return mean_squares(found, target)


@dataclass(frozen=True)
class MMD(StyleLoss):
    """Squared maximum mean discrepancy of features (Li et al. 2017, arXiv 1701.01036, equation 8).

    The biased estimate mean k(F, F) + mean k(S, S) - 2 mean k(F, S), over all pairs; linear and
    polynomial kernels need the moments alone. The polynomial kernel without an offset makes the
    Gram loss. With the Gaussian kernel at most `samples` positions of each picture are compared,
    drawn by the key, the same ones for pictures of one size: memory is that of three matrices of
    `samples` squared.

    Attributes:
      kernel: `linear`, x.y / c; `polynomial`, (x.y / c + offset)^2; `gaussian`,
        exp(-|x - y|^2 / (2 s)) with s = bandwidth times the mean squared distance of S's features.
      offset: of the polynomial kernel.
      bandwidth: of the Gaussian kernel.
      samples: see above.
    """

    name = "mmd"
    kernel: str = choice("polynomial", ("linear", "polynomial", "gaussian"))
    offset: float = number(1.0, 0.0, traced=True)
    bandwidth: float = number(1.0, 1e-6, traced=True)
    samples: int = number(2048, 1, 16384)

    @property
    def is_random(self) -> bool:
        """Whether positions are drawn."""
        return self.kernel == "gaussian"

    @property
    def by_moments(self) -> bool:
        """Whether the kernel needs the moments alone."""
        return self.kernel != "gaussian"

    def of_moments(self, found: Moments, positions: int) -> PyTree:
        """Returns what the kernel needs of them."""
        return found.mean if self.kernel == "linear" else found

    def statistic(self, features: Features) -> PyTree:
        """Returns the moments, or for the Gaussian kernel all points."""
        if self.kernel == "gaussian":
            return points_of(features)
        return self.of_moments(moments(features), math.prod(features.shape[:2]))

    def compare(self, found: PyTree, target: PyTree, pixels: int) -> Scalar:
        """Returns the discrepancy of moments."""
        if self.kernel == "linear":
            return mean_squares(found, target)
        return polynomial_mmd(found, target, self.offset)

    def distance(
        self, features: Features, target: PyTree, key: PRNGKeyArray, pixels: int
    ) -> Scalar:
        """Returns the discrepancy, for the Gaussian kernel that of drawn points."""
        if self.kernel == "gaussian":
            drawn = functools.partial(self._drawn, key)
            return gaussian_mmd(drawn(points_of(features)), drawn(target), self.bandwidth)
        return super().distance(features, target, key, pixels)

    def _drawn(self, key: PRNGKeyArray, points: Points) -> Float[Array, "m c"]:
        if len(points) <= self.samples:
            return points
        return points[jax.random.choice(key, len(points), (self.samples,), replace=False)]


class Rooted(NamedTuple):
    """Moments, and the symmetric root of the covariance."""

    moments: Moments
    root: Float[Array, "c c"]


@dataclass(frozen=True)
class Wasserstein(MomentLoss):
    """Squared Wasserstein-2 distance of Gaussians with the features' moments, over the channels.

    |mu_F - mu_S|^2 + tr(C_F + C_S - 2 (C_S^1/2 C_F C_S^1/2)^1/2) (Dowson and Landau 1982), with the
    positions as the sample.
    """

    name = "wasserstein"

    def of_moments(self, found: Moments, positions: int) -> Rooted:
        """Returns the moments with the root of the covariance, which has no slope."""
        return Rooted(found, jax.lax.stop_gradient(_symmetric_root(found.covariance)))

    def compare(self, found: Rooted, target: Rooted, pixels: int) -> Scalar:
        """Returns the distance."""
        return gaussian_wasserstein(found, target)


def polynomial_mmd(found: Moments, target: Moments, offset: Number = 1.0) -> Scalar:
    """Returns the squared MMD of the kernel (x.y / c + offset)^2, of features by their moments.

    Its features are the products of two channels and, times the root of 2 c `offset`, the channels,
    so that it is |E[x x^T] - E[y y^T]|^2 / c^2 + 2 offset |E[x] - E[y]|^2 / c.
    """
    channels = len(found.mean)
    second, wanted = (of.covariance + jnp.outer(of.mean, of.mean) for of in (found, target))
    products = jnp.sum(jnp.square(second - wanted)) / channels**2
    return products + 2.0 * offset * mean_squares(found.mean, target.mean)


def gaussian_mmd(points: Points, target: Float[Array, "m c"], bandwidth: Number = 1.0) -> Scalar:
    """Returns the squared MMD of two samples with a Gaussian kernel; see `MMD`."""
    centre = jnp.mean(target, axis=0)  # distances do not depend on it, their rounding does
    points, target = points - centre, target - centre
    # The mean squared distance of two independent draws is twice the mean squared deviation.
    variance = bandwidth * 2.0 * jnp.mean(jnp.sum(jnp.square(target), axis=1)) + VARIANCE_FLOOR

    def mean_kernel(first: Points, second: Float[Array, "m c"]) -> Scalar:
        return jnp.mean(jnp.exp(-squared_distances(first, second) / (2.0 * variance)))

    return (
        mean_kernel(points, points)
        + mean_kernel(target, target)
        - 2.0 * mean_kernel(points, target)
    )


def _symmetric_root(covariance: Float[Array, "c c"]) -> Float[Array, "c c"]:
    variances, axes = jnp.linalg.eigh(covariance)
    return matrix_product(axes * jnp.sqrt(jnp.maximum(variances, 0.0)), axes.T)


def gaussian_wasserstein(found: Rooted, target: Rooted) -> Scalar:
    """Returns the squared Wasserstein-2 distance of Gaussians; see `Wasserstein`."""
    channels = len(found.moments.mean)
    spread = jnp.trace(found.moments.covariance) + jnp.trace(target.moments.covariance)
    overlap = _overlap(found.moments.covariance, found.root, target.root)
    shift = jnp.sum(jnp.square(found.moments.mean - target.moments.mean))
    # Rounding of spread and overlap may leave less than nothing where the Gaussians are equal.
    return jnp.maximum(shift + spread - 2.0 * overlap, 0.0) / channels


@jax.custom_vjp
def _overlap(
    covariance: Float[Array, "c c"], root: Float[Array, "c c"], other: Float[Array, "c c"]
) -> Scalar:
    """Returns tr (R C R)^1/2 for C = `covariance`, R = `other`, by singular values of C^1/2 R.

    Not as eigenvalues of R C R: rounding makes those of order 1e-7 of the largest, whose roots are
    3e-4 of the largest, hundreds of them where features have few positions.
    """
    return jnp.sum(jnp.linalg.svd(matrix_product(root, other), compute_uv=False))


def _overlap_forward(
    covariance: Float[Array, "c c"], root: Float[Array, "c c"], other: Float[Array, "c c"]
) -> tuple[Scalar, PyTree]:
    _, values, axes = jnp.linalg.svd(matrix_product(root, other))
    return jnp.sum(values), (values, matrix_product(axes, other))


def _overlap_backward(kept: PyTree, slope: Scalar) -> tuple[Gram, Gram, Gram]:
    # dL/dC = 1/2 R (R C R)^-1/2 R, half the optimal transport map. Along axes that F does not have
    # it is infinite, and times the features, of which there is nothing, bounded: cut off.
    values, axes = kept
    least = 1e-4 * values[0] + jnp.finfo(jnp.float32).tiny
    inverse = jnp.where(values > least, 1.0 / jnp.maximum(values, least), 0.0)
    gradient = 0.5 * slope * matrix_product(axes.T * inverse, axes)
    return gradient, jnp.zeros_like(gradient), jnp.zeros_like(gradient)


_overlap.defvjp(_overlap_forward, _overlap_backward)
