"""Content losses: how a layer's features of the generated picture and of the photograph differ.

The Euclidean distance compares features at the same position, so that what moves by a pixel costs
as much as what vanishes. The others compare relations between positions, sets of features, or
directions. Each is a small frozen record of options, named in `CONTENT_LOSSES`; `content_term`
makes it a pure function of F (h, w, c), of the generated picture, and P, of the content picture,
of the same shape. All are zero on identical features that are not constant, and have a finite
gradient everywhere. Those that compare all pairs of positions do so on a regular grid of at most
`samples`, so that their memory is that of a few matrices of `samples` squared.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nstyle.errors import NstyleError
from nstyle.losses import (
    CONTENT_REDUCTIONS,
    Features,
    Scalar,
    at_least_float32,
    content_loss,
    grid_sample,
    squared_distances,
    unit_rows,
)

Points = Float[Array, "n c"]

#: Of the channels' mean variance, added to each one's, so that a dead channel does not count most.
VARIANCE_SHARE = 0.01

#: Added too, for a photograph without any features.
VARIANCE_FLOOR = 1e-6

#: Added to what distances are divided by (epsilon of Mechrez et al. 2018).
DISTANCE_FLOOR = 1e-5


@dataclass(frozen=True)
class Euclidean:
    """Squared distance of features (Gatys et al. 2015, equation 1), in `content_reduction`."""


@dataclass(frozen=True)
class Rescaled:
    """Squared distance in parts of each channel's variance over P, in `content_reduction`.

    A channel counts by how much it varies in the photograph, not by how large its numbers are.
    """


@dataclass(frozen=True)
class Cosine:
    """Mean cosine distance of features at the same position, each less its picture's mean."""


@dataclass(frozen=True)
class SelfSimilarity:
    """Differences of the pictures' own cosine distances between positions (STROTSS, equation 8).

    Kolkin et al. 2019 (arXiv 1904.12785): each column of distances over its sum; here the sum of a
    column's absolute differences, averaged over columns, the paper's times the number of
    positions. What F is made of does not count, only what is like what.

    Attributes:
      samples: most positions, on a grid.
    """

    samples: int = 1024


@dataclass(frozen=True)
class Contextual:
    """-log of the contextual similarity (Mechrez et al. 2018, arXiv 1803.02077, equations 2 to 5).

    For each feature of P the best of F, wherever it is, by cosine distance of features less P's
    mean. Constant features are all alike: their distance to themselves is the log of their number.

    Attributes:
      bandwidth: h, how sharply the best one stands out.
      samples: most positions, on a grid.
    """

    bandwidth: float = 0.1
    samples: int = 1024


ContentLoss = Euclidean | Rescaled | Cosine | SelfSimilarity | Contextual

CONTENT_LOSSES: dict[str, type[ContentLoss]] = {
    "euclidean": Euclidean,
    "rescaled": Rescaled,
    "cosine": Cosine,
    "self_similarity": SelfSimilarity,
    "contextual": Contextual,
}


#: Those that are sums over positions: they read `content_reduction` and weights of positions.
BY_POSITION = (Euclidean, Rescaled)


def content_term(
    loss: ContentLoss, reduction: str = "mean", weights: Float[Array, "h w 1"] | float = 1.0
) -> Callable[[Features, Features], Scalar]:
    """Returns a loss as a function of F and P.

    Args:
      loss: its options.
      reduction: see `losses.content_loss`; read by `BY_POSITION`.
      weights: of the positions, likewise.
    """
    match loss:
        case Euclidean():
            return _in_float32(
                functools.partial(content_loss, reduction=reduction, weights=weights)
            )
        case Rescaled():
            return _in_float32(
                functools.partial(rescaled_distance, reduction=reduction, weights=weights)
            )
        case Cosine():
            return _in_float32(cosine_distance)
        case SelfSimilarity():
            return _on_grid(self_similarity, loss.samples)
        case Contextual():
            return _on_grid(functools.partial(contextual, bandwidth=loss.bandwidth), loss.samples)


def _in_float32(
    compare: Callable[[Features, Features], Scalar],
) -> Callable[[Features, Features], Scalar]:
    return lambda features, target: compare(at_least_float32(features), at_least_float32(target))


def _on_grid(
    compare: Callable[[Points, Points], Scalar], samples: int
) -> Callable[[Features, Features], Scalar]:
    return lambda features, target: compare(
        grid_sample(features, samples), grid_sample(target, samples)
    )


def rescaled_distance(
    features: Features,
    target: Features,
    reduction: str = "mean",
    weights: Float[Array, "h w 1"] | float = 1.0,
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


def contextual(points: Points, target: Points, bandwidth: float = 0.1) -> Scalar:
    """Returns -log of the contextual similarity; see `Contextual`."""
    mean = jnp.mean(target, axis=0)
    distances = 0.5 * squared_distances(unit_rows(points - mean), unit_rows(target - mean))
    relative = distances / (jnp.min(distances, axis=1, keepdims=True) + DISTANCE_FLOOR)
    log_similarity = jax.nn.log_softmax(-relative / bandwidth, axis=1)
    best = jnp.max(log_similarity, axis=0)
    return jnp.log(float(len(best))) - jax.nn.logsumexp(best)


def check_content_loss(
    loss: ContentLoss, layers: tuple[str, ...], reduction: str, weighted: bool
) -> None:
    """Refuses a reduction or weights of positions that a loss would not read.

    Raises:
      NstyleError: naming them.
    """
    if weighted and not layers:
        raise NstyleError("content_weight_map: there are no content_layers that it would weigh")
    if not layers or isinstance(loss, BY_POSITION):
        return
    name = next(name for name, kind in CONTENT_LOSSES.items() if isinstance(loss, kind))
    if weighted:
        able = ", ".join(n for n, kind in CONTENT_LOSSES.items() if kind in BY_POSITION)
        raise NstyleError(
            f"content_weight_map: content_loss={name} is no sum over positions (allowed: {able})"
        )
    if reduction != "mean":
        raise NstyleError(
            f"content_reduction: content_loss={name} is a mean by itself, {reduction!r} would"
            " change nothing (with it: content_reduction=mean, and a content_weight for that)"
        )
