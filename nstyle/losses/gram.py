"""Gram matrices and covariances, in every normalisation in use.

Gatys et al. write F (M positions x N channels) for the features of the generated picture;
G = F^T F, and A is the same of the style picture (arXiv 1508.06576, equations 3 to 5). Tools in use
differ from the paper only in what they divide by, so the divisor is a named choice; the names are
the keys of `GRAM_NORMALIZATIONS` and `STYLE_REDUCTIONS`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nstyle.arrays import FeatureMaps, Features, Gram, Scalar, matrix_product
from nstyle.errors import NstyleError
from nstyle.losses.points import points_of
from nstyle.losses.style import MomentLoss, Moments, StyleLoss
from nstyle.records import choice

#: What `gram_matrix` divides by, given positions and channels.
GRAM_NORMALIZATIONS: dict[str, Callable[[int, int], float]] = {
    "none": lambda positions, channels: 1.0,
    "positions": lambda positions, channels: float(positions),
    "size": lambda positions, channels: float(positions) * channels,
}

#: What `style_loss` divides the sum of squares by, given channels and pixels of the picture.
STYLE_REDUCTIONS: dict[str, Callable[[float, int], float]] = {
    "sum": lambda channels, pixels: 1.0,
    "mean": lambda channels, pixels: float(channels) ** 2,
    "gatys": lambda channels, pixels: 4.0 * float(channels) ** 2,
    "image": lambda channels, pixels: 4.0 * 3.0**2 * float(pixels) ** 2,
}


@dataclass(frozen=True)
class GramMatrix(MomentLoss):
    """Gram matrices F^T F (Gatys et al. 2015, equations 3 and 4).

    Attributes:
      normalization: what Gram matrices are divided by, see `gram_matrix`.
      reduction: what the sum of squares is divided by, see `style_loss`.
    """

    name = "gram"
    normalization: str = choice("size", GRAM_NORMALIZATIONS)
    reduction: str = choice("sum", STYLE_REDUCTIONS)

    def statistic(self, features: Features) -> Gram:
        """Returns A of a layer, straight from its features."""
        return gram_matrix(features, self.normalization)

    def of_moments(self, found: Moments, positions: int) -> Gram:
        """Returns the same from the moments."""
        raw = positions * (found.covariance + jnp.outer(found.mean, found.mean))
        return raw / GRAM_NORMALIZATIONS[self.normalization](positions, len(found.mean))

    def compare(self, found: Gram, target: Gram, pixels: int) -> Scalar:
        """Returns E_l; `pixels` counts for the reduction `image` alone."""
        return style_loss(found, target, self.reduction, pixels)


@dataclass(frozen=True)
class Covariance(MomentLoss):
    """Covariances: Gram matrices of features less their mean, in the same units.

    Attributes:
      normalization: see `gram_matrix`.
      reduction: see `style_loss`.
    """

    name = "covariance"
    normalization: str = choice("size", GRAM_NORMALIZATIONS)
    reduction: str = choice("sum", STYLE_REDUCTIONS)

    def of_moments(self, found: Moments, positions: int) -> Gram:
        """Returns the covariance in the units of a Gram matrix."""
        scale = GRAM_NORMALIZATIONS[self.normalization](positions, len(found.mean))
        return positions * found.covariance / scale

    def compare(self, found: Gram, target: Gram, pixels: int) -> Scalar:
        """Returns the squared distance."""
        return style_loss(found, target, self.reduction, pixels)


#: Features of a layer and of a deeper one.
Pair = tuple[Features, Float[Array, "h_deep w_deep c_deep"]]


@dataclass(frozen=True)
class CrossLayerGram(StyleLoss):
    """Gram matrices F_l^T up(F_m) of each style layer m and the one before it, l, upsampled to l.

    Novak and Nikulin 2016 (arXiv 1605.04603), Yeh et al. 2018 (1803.11534). Positions are repeated.
    The first style layer, with none before it, has its own Gram matrix.

    Attributes:
      normalization: see `gram_matrix`.
      reduction: see `style_loss`.
    """

    name = "cross_layer_gram"
    normalization: str = choice("size", GRAM_NORMALIZATIONS)
    reduction: str = choice("sum", STYLE_REDUCTIONS)

    def looked_at(self, features: FeatureMaps, layers: tuple[str, ...]) -> dict[str, Pair]:
        """Returns the features of each layer and of the one before it."""
        before = (layers[0], *layers)
        return {
            layer: (features[other], features[layer])
            for other, layer in zip(before, layers, strict=False)
        }

    def statistic(self, features: Pair) -> Float[Array, "c c_deep"]:
        """Returns the Gram matrix of two layers."""
        return cross_gram(features, self.normalization)

    def compare(
        self, found: Float[Array, "c d"], target: Float[Array, "c d"], pixels: int
    ) -> Scalar:
        """Returns the squared distance, over the geometric mean of both layers' channels."""
        channels = math.sqrt(found.shape[0] * found.shape[1])
        divisor = STYLE_REDUCTIONS[self.reduction](channels, pixels)
        return jnp.sum(jnp.square(found - target)) / divisor

    def check_layers(self, layers: tuple[str, ...]) -> None:
        """Refuses a single layer with `NstyleError`."""
        if len(layers) == 1:
            raise NstyleError(
                f"style_layers: style_loss={self.name} compares pairs of layers, {layers[0]} is one"
                " (give two or more, or style_loss=gram)"
            )


def gram_matrix(features: Features, normalization: str = "positions") -> Gram:
    """Returns the Gram matrix F^T F of a feature map (Gatys et al. 2015, equation 3).

    Args:
      features: F, of height h, width w and c channels.
      normalization: `none`, as in the paper; `positions`, over h w, so that pictures of different
        sizes compare; `size`, over h w c (Johnson et al. 2016, equation 3).
    """
    height, width, channels = features.shape
    flat = features.reshape(height * width, channels)
    divisor = GRAM_NORMALIZATIONS[normalization](height * width, channels)
    return matrix_product(flat.T, flat) / divisor


def style_loss(gram: Gram, target: Gram, reduction: str = "gatys", pixels: int = 1) -> Scalar:
    """Returns the squared distance between two Gram matrices (Gatys et al. 2015, equation 4).

    Args:
      gram: G, of the generated picture.
      target: A, of the style picture, normalised like G.
      reduction: `sum`; `mean` over the c^2 entries; `gatys`, the sum over 4 c^2, which is the
        paper's E_l when both Gram matrices are over their own number of positions; `image`, the sum
        over 4 3^2 pixels^2, as in the Keras example, for Gram matrices without a normalisation.
      pixels: height times width of the generated picture; only `image` reads it.
    """
    divisor = STYLE_REDUCTIONS[reduction](gram.shape[0], pixels)
    return jnp.sum(jnp.square(gram - target)) / divisor


def cross_gram(pair: Pair, normalization: str = "size") -> Float[Array, "c c_deep"]:
    """Returns F_l^T up(F_m) of a layer l and a deeper one m; see `CrossLayerGram`.

    Args:
      pair: the features of both; of the deeper one, each position is repeated to the layer's size.
      normalization: see `gram_matrix`; channels are the geometric mean of both layers'.
    """
    shallow, deep = pair
    height, width, channels = shallow.shape
    deeper = deep.shape[-1]
    raised = jax.image.resize(deep, (height, width, deeper), "nearest")
    divisor = GRAM_NORMALIZATIONS[normalization](height * width, 1)
    if normalization == "size":
        divisor *= math.sqrt(channels * deeper)
    return matrix_product(points_of(shallow).T, points_of(raised)) / divisor
