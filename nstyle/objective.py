"""The total loss of a picture: static structure, traced numbers, every term of every layer.

    total = sum_l alpha_l content_l + sum_l beta_l style_l + gamma tv

(Gatys et al. 2015, equation 7.) `Structure` holds what decides the compiled program, `Problem` the
arrays and weights that it is run on: a change of numbers never compiles again.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from nstyle.content_losses import ContentLoss, Euclidean, check_content_loss, content_term
from nstyle.errors import NstyleError, check_choice
from nstyle.layers import NETWORKS, canonical, deepest, layer_names, minimum_size
from nstyle.losses import (
    CONTENT_REDUCTIONS,
    GRAM_NORMALIZATIONS,
    STYLE_REDUCTIONS,
    TOTAL_VARIATIONS,
    FeatureMaps,
    Image,
    Scalar,
    softmax_smoothing,
    total_variation,
)
from nstyle.networks import MEAN_PIXEL, POOLINGS, PRECISIONS, Params, network_features
from nstyle.style_losses import (
    GramMatrix,
    StyleLoss,
    StyleTerm,
    check_style_loss,
    observed,
    style_term,
)


@dataclass(frozen=True)
class Structure:
    """The static part of an objective; hashable, so that compiled functions are kept by it.

    Attributes:
      network: a key of `layers.NETWORKS`.
      pooling: a key of `networks.POOLINGS`.
      pixels: the family of the weights, `torchvision` or `caffe`.
      content_layers: layers of the content loss, any spelling, each once; may be empty.
      style_layers: layers of the style loss, likewise.
      content_reduction: a key of `losses.CONTENT_REDUCTIONS`.
      content_loss: one of the classes in `content_losses.CONTENT_LOSSES`, with its options.
      style_loss: one of the classes in `style_losses.STYLE_LOSSES`, with its options.
      gram_normalization: a key of `losses.GRAM_NORMALIZATIONS`.
      style_reduction: a key of `losses.STYLE_REDUCTIONS`.
      tv_kind: a key of `losses.TOTAL_VARIATIONS`.
      value_range: the value of white in the picture that is optimised, 1 or 255; total variation
        and the solver's step are in these units.
      precision: of the network, a key of `networks.PRECISIONS`; losses are float32.
      temperature: of the softmax that smooths all features before any loss, see
        `losses.softmax_smoothing`; None leaves them as they are.

    Raises:
      NstyleError: a value is not one of those allowed, or a layer is named twice.
    """

    network: str = "vgg16"
    pooling: str = "avg"
    pixels: str = "torchvision"
    content_layers: tuple[str, ...] = ("conv4_2",)
    style_layers: tuple[str, ...] = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
    content_reduction: str = "mean"
    gram_normalization: str = "size"
    style_reduction: str = "sum"
    tv_kind: str = "mean_squared"
    value_range: float = 1.0
    precision: str = "float32"
    content_loss: ContentLoss = Euclidean()  # noqa: RUF009, frozen
    style_loss: StyleLoss = GramMatrix()  # noqa: RUF009, frozen
    temperature: float | None = None

    def __post_init__(self) -> None:
        check_choice("network", self.network, NETWORKS)
        check_choice("pooling", self.pooling, POOLINGS)
        check_choice("pixels", self.pixels, MEAN_PIXEL)
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("content_reduction", self.content_reduction, CONTENT_REDUCTIONS)
        check_choice("gram_normalization", self.gram_normalization, GRAM_NORMALIZATIONS)
        check_choice("style_reduction", self.style_reduction, STYLE_REDUCTIONS)
        check_choice("tv_kind", self.tv_kind, TOTAL_VARIATIONS)
        for field in ("content_layers", "style_layers"):
            names = tuple(canonical(layer, self.network) for layer in getattr(self, field))
            if len(set(names)) < len(names):
                raise NstyleError(f"{field}: a layer is named twice in {', '.join(names)}")
            object.__setattr__(self, field, names)
        check_content_loss(self.content_loss, self.content_layers, self.content_reduction)
        check_style_loss(
            self.style_loss, self.style_layers, self.gram_normalization, self.style_reduction
        )
        if not self.layers:
            raise NstyleError("content_layers and style_layers are both empty: nothing to optimise")

    @property
    def layers(self) -> tuple[str, ...]:
        """All the layers in use, each once."""
        return tuple(dict.fromkeys(self.content_layers + self.style_layers))

    @property
    def minimum_size(self) -> int:
        """The least height and width of a picture that the deepest layer still sees."""
        return max(2, minimum_size(deepest(self.layers, self.network), self.network))


class LossWeights(NamedTuple):
    """The weight of every term: layer name -> weight for content and style, and one for TV."""

    content: dict[str, Float[Array, ""] | float]
    style: dict[str, Float[Array, ""] | float]
    tv: Float[Array, ""] | float = 0.0


class Targets(NamedTuple):
    """What the generated picture is compared with, by layer.

    Attributes:
      content: P of Gatys et al., the features of the content picture.
      style: the statistic of the style picture that the style loss takes, A of Gatys et al.
    """

    content: FeatureMaps
    style: dict[str, Any]


class Problem(NamedTuple):
    """Everything traced but the picture itself.

    Attributes:
      params: weights of the network.
      targets: see there.
      weights: of the terms.
      seed: of what a style loss draws, as good as 0 where it is left empty. Empty and not None,
        which stands for an axis where problems are batched.
    """

    params: Params
    targets: Targets
    weights: LossWeights
    seed: Int[Array, ""] | int | tuple[()] = ()


class Terms(NamedTuple):
    """Every term of the loss before its weight: by layer for content and style, and TV."""

    content: dict[str, Scalar]
    style: dict[str, Scalar]
    tv: Scalar


def features_of(
    structure: Structure, params: Params, image: Image, layers: tuple[str, ...]
) -> FeatureMaps:
    """Returns the smoothed features of `layers` for a picture in [0, `value_range`]."""
    if not layers:
        return {}
    features = network_features(
        params,
        image / structure.value_range,
        network=structure.network,
        pooling=structure.pooling,
        layers=layers,
        pixels=structure.pixels,
        precision=structure.precision,
    )
    if structure.temperature is None:
        return features
    return {
        layer: softmax_smoothing(feature, structure.temperature)
        for layer, feature in features.items()
    }


def content_targets(structure: Structure, params: Params, content: Image) -> FeatureMaps:
    """Returns the features of the content picture, in [0, `value_range`], by content layer."""
    return features_of(structure, params, content, structure.content_layers)


def style_targets(structure: Structure, params: Params, style: Image) -> dict[str, Any]:
    """Returns the statistics of the style picture, in [0, `value_range`], by style layer."""
    features = features_of(structure, params, style, structure.style_layers)
    term = style_term_of(structure)
    return {layer: term.statistic(seen) for layer, seen in _observed(structure, features).items()}


def style_term_of(structure: Structure, pixels: int = 1) -> StyleTerm:
    """Returns the style loss of a layer, for pictures of so many pixels."""
    return style_term(
        structure.style_loss, structure.gram_normalization, structure.style_reduction, pixels
    )


def _observed(structure: Structure, features: FeatureMaps) -> dict[str, Any]:
    order = layer_names(structure.network)
    return observed(
        structure.style_loss, features, tuple(sorted(structure.style_layers, key=order.index))
    )


def evaluate(structure: Structure, image: Image, problem: Problem) -> tuple[Scalar, Terms]:
    """Returns the total loss of a picture, and its terms before their weights.

    Args:
      structure: static; mark it so when you jit this function yourself.
      image: RGB in [0, `structure.value_range`], of the content picture's shape where there are
        content layers.
      problem: weights of the network, targets, weights of the terms.
    """
    features = features_of(structure, problem.params, image, structure.layers)
    targets, weights = problem.targets, problem.weights
    content = content_term(structure.content_loss, structure.content_reduction)
    seen = _observed(structure, features)
    style = style_term_of(structure, pixels=image.shape[0] * image.shape[1])
    key = jax.random.key(0 if isinstance(problem.seed, tuple) else problem.seed)
    terms = Terms(
        content={
            layer: content(features[layer], targets.content[layer])
            for layer in structure.content_layers
        },
        style={
            layer: style.distance(seen[layer], targets.style[layer], key)
            for layer in structure.style_layers
        },
        tv=total_variation(image, structure.tv_kind),
    )
    return weighted_total(terms, weights), terms


def weighted_total(terms: Terms, weights: LossWeights) -> Scalar:
    """Returns the sum of all terms times their weights."""
    products = jax.tree.map(lambda weight, term: weight * term, tuple(weights), tuple(terms))
    return jnp.sum(jnp.stack(jax.tree.leaves(products)))
