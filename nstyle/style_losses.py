"""Style losses: what is taken of a layer's features, and how two pictures are compared by it.

Each is a small frozen record of options, named in `STYLE_LOSSES`; `style_term` makes it two pure
functions, `statistic`, of the features, and `distance`, of features and the statistic of the style
picture. F are the features (positions x channels) of the generated picture, S those of the style
picture, which may be of another size. Distances are zero on identical features, with a finite
gradient everywhere, also where features are constant, zero or have one position.

`GramMatrix`, `Covariance` and `CrossLayerGram` are in the units of `losses.gram_matrix` and
`losses.style_loss`. The others are means over positions and channels.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from nstyle.errors import NstyleError, check_choice
from nstyle.losses import (
    GRAM_NORMALIZATIONS,
    STYLE_REDUCTIONS,
    Features,
    Gram,
    Scalar,
    at_least_float32,
    gram_matrix,
    grid_sample,
    matrix_product,
    squared_distances,
    style_loss,
    unit_rows,
)

Points = Float[Array, "n c"]

KERNELS = ("linear", "polynomial", "gaussian")

#: Added to variances before their root, whose slope at zero is infinite.
VARIANCE_FLOOR = 1e-8

#: Most pairs of positions that a search for neighbours compares at a time.
PAIRS_AT_A_TIME = 2**22


@dataclass(frozen=True)
class GramMatrix:
    """Gram matrices F^T F (Gatys et al. 2015, equations 3 and 4)."""


@dataclass(frozen=True)
class Covariance:
    """Covariances: Gram matrices of features less their mean, in the same units."""


@dataclass(frozen=True)
class MeanStd:
    """Mean and standard deviation of each channel (Li et al. 2017, arXiv 1701.01036, equation 12).

    The mean over channels of (mu_F - mu_S)^2 + (sigma_F - sigma_S)^2.
    """


@dataclass(frozen=True)
class MMD:
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

    kernel: str = "polynomial"
    offset: float = 1.0
    bandwidth: float = 1.0
    samples: int = 2048

    def __post_init__(self) -> None:
        check_choice("style_loss.kernel", self.kernel, KERNELS)


@dataclass(frozen=True)
class Wasserstein:
    """Squared Wasserstein-2 distance of Gaussians with the features' moments, over the channels.

    |mu_F - mu_S|^2 + tr(C_F + C_S - 2 (C_S^1/2 C_F C_S^1/2)^1/2) (Dowson and Landau 1982), with the
    positions as the sample.
    """


@dataclass(frozen=True)
class SlicedWasserstein:
    """Sliced Wasserstein-2 distance (Heitz et al. 2021, arXiv 2006.07229, equation 4).

    The mean over random directions, drawn by the key, of the squared differences of sorted
    projections. Where S has another number of positions its quantiles are interpolated.

    Attributes:
      directions: how many.
    """

    directions: int = 64


@dataclass(frozen=True)
class Histogram:
    """Distance to features whose channels have S's histograms (Risser et al. 2017, 1701.08893).

    Mean of (F - R(F))^2 with R the matching of each channel's histogram. Matching is by rank, the
    limit of many bins, so that it is the Wasserstein-2 distance of single channels.
    """


@dataclass(frozen=True)
class NearestNeighbour:
    """Cosine distance of each of F to the nearest of S (Kolkin et al. 2022, NNST, 2203.13215).

    The nearest by cosine distance of features less their picture's mean, as in the paper; the
    distance itself is of the features as they are. Of single layers, where the paper joins layers
    to one vector. At most `samples` of S, on a regular grid, are candidates; with fewer positions
    in S than that, identical features have no distance.

    Attributes:
      samples: see above.
    """

    samples: int = 1024


@dataclass(frozen=True)
class RelaxedEMD:
    """Relaxed earth mover's distance by cosine (Kolkin et al. 2019, STROTSS, 1904.12785, eq. 5).

    The larger of two means: distances of each of F to the nearest of S, and the other way round. Of
    single layers, without the paper's terms for moments and colours. At most `samples` of S, on a
    regular grid, take part, and all of F.

    Attributes:
      samples: see above.
    """

    samples: int = 1024


@dataclass(frozen=True)
class CrossLayerGram:
    """Gram matrices F_l^T up(F_m) of each style layer m and the one before it, l, upsampled to l.

    Novak and Nikulin 2016 (arXiv 1605.04603), Yeh et al. 2018 (1803.11534). Positions are repeated.
    The first style layer, with none before it, has its own Gram matrix.
    """


StyleLoss = (
    GramMatrix
    | Covariance
    | MeanStd
    | MMD
    | Wasserstein
    | SlicedWasserstein
    | Histogram
    | NearestNeighbour
    | RelaxedEMD
    | CrossLayerGram
)

STYLE_LOSSES: dict[str, type[StyleLoss]] = {
    "gram": GramMatrix,
    "covariance": Covariance,
    "mean_std": MeanStd,
    "mmd": MMD,
    "wasserstein": Wasserstein,
    "sliced_wasserstein": SlicedWasserstein,
    "histogram": Histogram,
    "nnst": NearestNeighbour,
    "remd": RelaxedEMD,
    "cross_layer_gram": CrossLayerGram,
}

#: Those that read `gram_normalization` and `style_reduction`.
IN_GRAM_UNITS = (GramMatrix, Covariance, CrossLayerGram)


class Moments(NamedTuple):
    """Mean and covariance of features, over the number of positions."""

    mean: Float[Array, " c"]
    covariance: Float[Array, "c c"]


class ByMoments(NamedTuple):
    """A loss that knows of the features nothing but their moments: what `tiles` adds up.

    Attributes:
      statistic: (moments, number of positions) -> the same as `StyleTerm.statistic`.
      distance: (statistic of F, statistic of S) -> the same as `StyleTerm.distance`.
    """

    statistic: Callable[[Moments, int], Any]
    distance: Callable[[Any, Any], Scalar]


class StyleTerm(NamedTuple):
    """A style loss as pure functions.

    Attributes:
      statistic: (features of the style picture) -> the target, a pytree.
      distance: (features, target, key) -> the loss of a layer.
      by_moments: the same by moments; None where they are not enough.
    """

    statistic: Callable[[Any], Any]
    distance: Callable[[Any, Any, PRNGKeyArray], Scalar]
    by_moments: ByMoments | None = None


def name_of(loss: StyleLoss) -> str:
    """Returns the name by which `STYLE_LOSSES` has a loss."""
    return next(name for name, kind in STYLE_LOSSES.items() if type(loss) is kind)


def is_random(loss: StyleLoss) -> bool:
    """Says whether the loss depends on the key."""
    return isinstance(loss, SlicedWasserstein) or (
        isinstance(loss, MMD) and loss.kernel == "gaussian"
    )


def names_by_moments() -> str:
    """Returns the losses that know nothing but moments, for a message."""
    able = [name for name, kind in STYLE_LOSSES.items() if style_term(kind()).by_moments]
    return f"{', '.join(able)}; mmd without the gaussian kernel"


def style_term(
    loss: StyleLoss, normalization: str = "size", reduction: str = "sum", pixels: int = 1
) -> StyleTerm:
    """Returns a loss as functions of features (h, w, c), of `CrossLayerGram` of pairs of these.

    Args:
      loss: its options.
      normalization: see `losses.gram_matrix`; read by `IN_GRAM_UNITS`.
      reduction: see `losses.style_loss`; likewise.
      pixels: likewise.
    """
    compare = functools.partial(style_loss, reduction=reduction, pixels=pixels)
    match loss:
        case GramMatrix():
            scale = GRAM_NORMALIZATIONS[normalization]

            def gram(found: Moments, positions: int) -> Gram:
                raw = positions * (found.covariance + jnp.outer(found.mean, found.mean))
                return raw / scale(positions, len(found.mean))

            return _of_features(
                functools.partial(gram_matrix, normalization=normalization), compare
            )._replace(by_moments=ByMoments(gram, compare))
        case Covariance():
            scale = GRAM_NORMALIZATIONS[normalization]
            return _of_moments(
                lambda found, n: n * found.covariance / scale(n, len(found.mean)), compare
            )
        case MeanStd():
            return _of_moments(_mean_and_std, _mean_squares)
        case MMD("linear"):
            return _of_moments(lambda found, _: found.mean, _mean_squares)
        case MMD("polynomial"):
            return _of_moments(_as_they_are, functools.partial(polynomial_mmd, offset=loss.offset))
        case MMD():
            return StyleTerm(_points, functools.partial(_sampled_mmd, loss))
        case Wasserstein():
            return _of_moments(_rooted, gaussian_wasserstein)
        case SlicedWasserstein():
            return StyleTerm(_points, functools.partial(_sliced, directions=loss.directions))
        case Histogram():
            return _of_features(lambda f: jnp.sort(_points(f).T), _transport_to_sorted, raw=True)
        case NearestNeighbour():
            return _of_features(
                functools.partial(grid_sample, samples=loss.samples), nearest_neighbour, raw=True
            )
        case RelaxedEMD():
            return _of_features(
                functools.partial(grid_sample, samples=loss.samples), relaxed_emd, raw=True
            )
        case CrossLayerGram():
            return _of_features(
                functools.partial(cross_gram, normalization=normalization),
                functools.partial(_cross_gram_loss, reduction=reduction, pixels=pixels),
            )


def _of_features(
    statistic: Callable[[Any], Any], compare: Callable[[Any, Any], Scalar], raw: bool = False
) -> StyleTerm:
    """Returns the term that compares the same statistic of both, or with `raw` F's own features."""
    own = _points if raw else statistic
    return StyleTerm(statistic, lambda features, target, _: compare(own(features), target))


def _of_moments(
    statistic: Callable[[Moments, int], Any], compare: Callable[[Any, Any], Scalar]
) -> StyleTerm:
    def of(features: Features) -> Any:
        return statistic(moments(features), math.prod(features.shape[:2]))

    return _of_features(of, compare)._replace(by_moments=ByMoments(statistic, compare))


def _points(features: Features) -> Points:
    return at_least_float32(features.reshape(-1, features.shape[-1]))


def moments(features: Features) -> Moments:
    """Returns the mean and the covariance of features over their positions."""
    points = _points(features)
    mean = jnp.mean(points, axis=0)
    centred = points - mean
    return Moments(mean, matrix_product(centred.T, centred) / len(points))


def guided_statistic(by: ByMoments, features: Features, guidance: Float[Array, "h w"]) -> Any:
    """Returns the statistic of a region, as if it filled the picture.

    For `GramMatrix` the guided Gram matrix of Gatys et al. 2017 (arXiv 1611.07865, equations 5 and
    6), sum_i T_i^2 f_i f_i^T with sum_i T_i^2 = 1, times the number of positions; so that regions
    of different extents compare with each other and with whole pictures.

    Args:
      by: the loss by moments.
      features: of the whole picture.
      guidance: T^2, what each position counts; sums to 1.
    """
    points, share = _points(features), guidance.reshape(-1, 1)
    mean = jnp.sum(share * points, axis=0)
    centred = points - mean
    covariance = matrix_product((share * centred).T, centred)
    return by.statistic(Moments(mean, covariance), len(points))


def _as_they_are(found: Moments, _: int) -> Moments:
    return found


def _mean_and_std(found: Moments, _: int) -> Float[Array, "2 c"]:
    variance = jnp.maximum(jnp.diagonal(found.covariance), 0.0)
    return jnp.stack([found.mean, jnp.sqrt(variance + VARIANCE_FLOOR)])


def _mean_squares(found: Float[Array, "... c"], target: Float[Array, "... c"]) -> Scalar:
    return jnp.sum(jnp.square(found - target)) / found.shape[-1]


def polynomial_mmd(found: Moments, target: Moments, offset: float = 1.0) -> Scalar:
    """Returns the squared MMD of the kernel (x.y / c + offset)^2, of features by their moments.

    Its features are the products of two channels and, times the root of 2 c `offset`, the channels,
    so that it is |E[x x^T] - E[y y^T]|^2 / c^2 + 2 offset |E[x] - E[y]|^2 / c.
    """
    channels = len(found.mean)
    second, wanted = (of.covariance + jnp.outer(of.mean, of.mean) for of in (found, target))
    products = jnp.sum(jnp.square(second - wanted)) / channels**2
    return products + 2.0 * offset * _mean_squares(found.mean, target.mean)


def _sampled_mmd(loss: MMD, features: Features, target: Points, key: PRNGKeyArray) -> Scalar:
    def drawn(points: Points) -> Points:
        if len(points) <= loss.samples:
            return points
        return points[jax.random.choice(key, len(points), (loss.samples,), replace=False)]

    return gaussian_mmd(drawn(_points(features)), drawn(target), loss.bandwidth)


def gaussian_mmd(points: Points, target: Points, bandwidth: float = 1.0) -> Scalar:
    """Returns the squared MMD of two samples with a Gaussian kernel; see `MMD`."""
    centre = jnp.mean(target, axis=0)  # distances do not depend on it, their rounding does
    points, target = points - centre, target - centre
    # The mean squared distance of two independent draws is twice the mean squared deviation.
    variance = bandwidth * 2.0 * jnp.mean(jnp.sum(jnp.square(target), axis=1)) + VARIANCE_FLOOR

    def mean_kernel(first: Points, second: Points) -> Scalar:
        return jnp.mean(jnp.exp(-squared_distances(first, second) / (2.0 * variance)))

    return (
        mean_kernel(points, points)
        + mean_kernel(target, target)
        - 2.0 * mean_kernel(points, target)
    )


class Rooted(NamedTuple):
    """Moments, and the symmetric root of the covariance."""

    moments: Moments
    root: Float[Array, "c c"]


def _rooted(found: Moments, _: int) -> Rooted:
    return Rooted(found, jax.lax.stop_gradient(_symmetric_root(found.covariance)))


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
) -> tuple[Scalar, Any]:
    _, values, axes = jnp.linalg.svd(matrix_product(root, other))
    return jnp.sum(values), (values, matrix_product(axes, other))


def _overlap_backward(kept: Any, slope: Scalar) -> tuple[Gram, Gram, Gram]:
    # dL/dC = 1/2 R (R C R)^-1/2 R, half the optimal transport map. Along axes that F does not have
    # it is infinite, and times the features, of which there is nothing, bounded: cut off.
    values, axes = kept
    least = 1e-4 * values[0] + jnp.finfo(jnp.float32).tiny
    inverse = jnp.where(values > least, 1.0 / jnp.maximum(values, least), 0.0)
    gradient = 0.5 * slope * matrix_product(axes.T * inverse, axes)
    return gradient, jnp.zeros_like(gradient), jnp.zeros_like(gradient)


_overlap.defvjp(_overlap_forward, _overlap_backward)


def _sliced(features: Features, target: Points, key: PRNGKeyArray, directions: int) -> Scalar:
    return sliced_wasserstein(
        _points(features), target, random_directions(key, directions, target.shape[1])
    )


def random_directions(key: PRNGKeyArray, count: int, channels: int) -> Float[Array, "k c"]:
    """Returns unit vectors, uniform on the sphere."""
    return unit_rows(jax.random.normal(key, (count, channels)))


def sliced_wasserstein(
    points: Points, target: Float[Array, "m c"], directions: Float[Array, "k c"]
) -> Scalar:
    """Returns the mean over directions of the squared Wasserstein-2 distance of projections."""
    projected, wanted = (matrix_product(directions, of.T) for of in (points, target))
    return transport(projected, jnp.sort(wanted))


def _transport_to_sorted(points: Points, target: Float[Array, "c m"]) -> Scalar:
    return transport(points.T, target)


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


def cross_gram(
    pair: tuple[Features, Float[Array, "h_deep w_deep c_deep"]], normalization: str = "size"
) -> Float[Array, "c c_deep"]:
    """Returns F_l^T up(F_m) of a layer l and a deeper one m; see `CrossLayerGram`.

    Args:
      pair: the features of both; of the deeper one, each position is repeated to the layer's size.
      normalization: see `losses.gram_matrix`; channels are the geometric mean of both layers'.
    """
    shallow, deep = pair
    height, width, channels = shallow.shape
    deeper = deep.shape[-1]
    raised = jax.image.resize(deep, (height, width, deeper), "nearest")
    divisor = GRAM_NORMALIZATIONS[normalization](height * width, 1)
    if normalization == "size":
        divisor *= math.sqrt(channels * deeper)
    return matrix_product(_points(shallow).T, _points(raised)) / divisor


def _cross_gram_loss(
    gram: Float[Array, "c d"], target: Float[Array, "c d"], reduction: str, pixels: int
) -> Scalar:
    channels = math.sqrt(gram.shape[0] * gram.shape[1])
    return jnp.sum(jnp.square(gram - target)) / STYLE_REDUCTIONS[reduction](channels, pixels)


def observed(
    loss: StyleLoss, features: dict[str, Features], layers: tuple[str, ...]
) -> dict[str, Any]:
    """Returns what a loss looks at for each layer: its features, or those of two layers.

    Args:
      loss: its options.
      features: by layer.
      layers: the style layers, from the shallowest.
    """
    if not isinstance(loss, CrossLayerGram):
        return {layer: features[layer] for layer in layers}
    before = (layers[0], *layers)
    return {
        layer: (features[other], features[layer])
        for other, layer in zip(before, layers, strict=False)
    }


def check_style_loss(
    loss: StyleLoss, layers: tuple[str, ...], normalization: str, reduction: str
) -> None:
    """Refuses options that a loss would not read, or layers that it cannot work with.

    Raises:
      NstyleError: naming them.
    """
    name = name_of(loss)
    given = {"gram_normalization": normalization, "style_reduction": reduction}
    default = {"gram_normalization": "size", "style_reduction": "sum"}
    if layers and not isinstance(loss, IN_GRAM_UNITS) and given != default:
        key = next(key for key in given if given[key] != default[key])
        raise NstyleError(
            f"{key}: style_loss={name} has no Gram matrix, {given[key]!r} would change nothing"
            f" (with it: gram_normalization=size style_reduction=sum, and a style_weight for these)"
        )
    if isinstance(loss, CrossLayerGram) and len(layers) == 1:
        raise NstyleError(
            f"style_layers: style_loss={name} compares pairs of layers, {layers[0]} is one"
            " (give two or more, or style_loss=gram)"
        )


def check_guided(loss: StyleLoss, layers: tuple[str, ...]) -> None:
    """Refuses regions where no style loss reads them.

    Raises:
      NstyleError: naming the losses that do.
    """
    if not layers:
        raise NstyleError("content_mask: there are no style_layers that would see its regions")
    if style_term(loss).by_moments is None:
        raise NstyleError(
            f"content_mask: style_loss={name_of(loss)} is not one of moments, which regions have"
            f" (allowed: {names_by_moments()})"
        )
