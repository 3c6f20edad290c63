"""The total loss of a picture: static structure, traced numbers, every term of every layer.

    total = sum_l alpha_l content_l + sum_l beta_l style_l + gamma tv

(Gatys et al. 2015, equation 7.) `Structure` holds what decides the compiled program, `Problem` the
arrays and weights that it is run on: a change of numbers never compiles again.

Where a problem has `References`, each term is divided by what it is worth for a picture that knows
nothing of the answer. Terms are then numbers without a unit: content is the share of the photograph
that is unexplained, style the share of the distance to the painting that is left.
"""

import copy
import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from nstyle.arrays import FeatureMaps, Image, PyTree, Scalar
from nstyle.errors import NstyleError, check_choice
from nstyle.images.colour import grey
from nstyle.losses import (
    STYLE_LOSSES,
    TOTAL_VARIATIONS,
    ContentLoss,
    Euclidean,
    GramMatrix,
    NoSmoothing,
    Smoothing,
    StyleLoss,
    total_variation,
)
from nstyle.networks import (
    MEAN_PIXEL,
    NETWORKS,
    PADDINGS,
    PRECISIONS,
    Average,
    Params,
    Pooling,
    canonical,
    deepest,
    depth,
    minimum_size,
    network_features,
    pool_counts,
)
from nstyle.records import Record, tried

#: Style losses that regions and tiles can make, for messages; of `mmd` not the gaussian kernel.
BY_MOMENTS = ", ".join(name for name, loss in STYLE_LOSSES.items() if loss().by_moments)


@dataclass(frozen=True)
class Structure:
    """The static part of an objective; hashable, so that compiled functions are kept by it.

    Attributes:
      network: a key of `networks.NETWORKS`.
      pooling: how the network's maps become smaller.
      pixels: the family of the weights, `torchvision` or `caffe`.
      content_layers: layers of the content loss, any spelling, each once; may be empty.
      style_layers: layers of the style loss, likewise.
      content_loss: with its options.
      style_loss: with its options.
      smoothing: what features become before any loss.
      regions: for each target of the style loss the number of the region of the picture that is
        compared with it; None compares the whole picture.
      content_weighted: whether positions of the content loss have weights.
      tv_kind: a key of `losses.TOTAL_VARIATIONS`.
      value_range: the value of white in the picture that is optimised, 1 or 255; total variation
        and the solver's step are in these units.
      precision: of the network, a key of `networks.PRECISIONS`; losses are float32.
      luminance: whether all terms are of the pictures' luminance alone, see `colour.grey`.
      padding: what the network sees beyond the picture's border, a key of `networks.PADDINGS`.

    Raises:
      NstyleError: a value is not one of those allowed, a layer is named twice, or a record that is
        not this package's own breaks its contract.
    """

    network: str = "vgg16"
    pooling: Pooling = Average()  # noqa: RUF009, frozen
    pixels: str = "torchvision"
    content_layers: tuple[str, ...] = ("conv4_2",)
    style_layers: tuple[str, ...] = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
    tv_kind: str = "mean_squared"
    value_range: float = 1.0
    precision: str = "float32"
    luminance: bool = False
    content_loss: ContentLoss = Euclidean()  # noqa: RUF009, frozen
    style_loss: StyleLoss = GramMatrix()  # noqa: RUF009, frozen
    smoothing: Smoothing = NoSmoothing()  # noqa: RUF009, frozen
    regions: tuple[int | None, ...] = (None,)
    content_weighted: bool = False
    padding: str = "zeros"

    def __post_init__(self) -> None:
        check_choice("network", self.network, NETWORKS)
        check_choice("pixels", self.pixels, MEAN_PIXEL)
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("padding", self.padding, PADDINGS)
        check_choice("tv_kind", self.tv_kind, TOTAL_VARIATIONS)
        for field in ("content_layers", "style_layers"):
            names = tuple(canonical(layer, self.network) for layer in getattr(self, field))
            if len(set(names)) < len(names):
                raise NstyleError(f"{field}: a layer is named twice in {', '.join(names)}")
            object.__setattr__(self, field, names)
        for record, kind in (
            (self.pooling, Pooling),
            (self.content_loss, ContentLoss),
            (self.style_loss, StyleLoss),
            (self.smoothing, Smoothing),
        ):
            tried(record, kind)
        if self.content_weighted and not self.content_layers:
            raise NstyleError("content_weight_map: there are no content_layers that it would weigh")
        if self.content_weighted and not self.content_loss.by_position:
            raise NstyleError(
                f"content_weight_map: content_loss={self.content_loss.name} is no sum over"
                " positions (allowed: euclidean, rescaled)"
            )
        self.style_loss.check_layers(self.style_layers)
        if self.guided and not self.style_layers:
            raise NstyleError("content_mask: there are no style_layers that would see its regions")
        if self.guided and not self.style_loss.by_moments:
            raise NstyleError(
                f"content_mask: style_loss={self.style_loss.name} is not one of moments, which"
                f" regions have (allowed: {BY_MOMENTS})"
            )
        if not self.layers:
            raise NstyleError("content_layers and style_layers are both empty: nothing to optimise")
        self.pooling.check_pools(*pool_counts(self.layers, self.network))

    @property
    def records(self) -> dict[str, Record]:
        """What it chooses among, by the field that holds it."""
        return {name: own for name, own in vars(self).items() if isinstance(own, Record)}

    @property
    def numbers(self) -> dict[str, PyTree]:
        """The traced options of its records, by field."""
        return {name: own.numbers for name, own in self.records.items()}

    @property
    def static(self) -> "Structure":
        """The same, the traced options at their defaults: what decides compiled programs."""
        static: PyTree = {name: own.static for name, own in self.records.items()}
        return replace(self, **static)

    def bound(self, options: PyTree, seed: PyTree = ()) -> "Structure":
        """Returns the same with traced options, for use inside a compiled program.

        Args:
          options: `Problem.options`; empty leaves its own.
          seed: `Problem.seed`, of what a pooling draws.
        """
        bound = copy.copy(self)
        for name, given in (options or {}).items():
            object.__setattr__(bound, name, getattr(self, name).bound(given))
        if self.pooling.is_random:
            object.__setattr__(bound, "pooling", bound.pooling.drawn(key_of(seed)))
        return bound

    @property
    def is_random(self) -> bool:
        """Whether its loss draws random numbers."""
        return self.style_loss.is_random or self.pooling.is_random

    @property
    def layers(self) -> tuple[str, ...]:
        """All the layers in use, each once."""
        return tuple(dict.fromkeys(self.content_layers + self.style_layers))

    @property
    def guided(self) -> bool:
        """Whether the style loss compares regions."""
        return any(region is not None for region in self.regions)

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
      style: the statistics that the style loss takes, A of Gatys et al.: of each style picture, or
        of each of its regions, in the order of `Structure.regions`.
    """

    content: FeatureMaps
    style: dict[str, tuple[PyTree, ...]]


class References(NamedTuple):
    """What each term is worth for a picture that knows nothing of the answer; see `balance`.

    Attributes:
      content: by content layer.
      style: by style layer, for each target of the style loss.
    """

    content: dict[str, Scalar]
    style: dict[str, tuple[Scalar, ...]]


class Problem(NamedTuple):
    """Everything traced but the picture itself.

    Attributes:
      params: weights of the network.
      targets: see there.
      weights: of the terms.
      seed: of what a style loss or a pooling draws, as good as 0 where it is left empty. Empty and
        not None, which stands for an axis where problems are batched.
      blend: the share of each style target in the style term of a layer.
      guidance: by style layer, what each position counts in each region of the generated picture,
        (regions, h, w), each region's sum is 1; empty where `Structure.regions` names none.
      content_weights: by content layer, what the content loss at each position is multiplied by,
        (h, w, 1); empty unless `Structure.content_weighted`.
      references: what terms are divided by; empty leaves them in the units of their losses.
      options: `Structure.numbers`, which count in place of the structure's own; empty takes those
        as constants.
    """

    params: Params
    targets: Targets
    weights: LossWeights
    seed: Int[Array, ""] | int | tuple[()] = ()
    blend: tuple[Float[Array, ""] | float, ...] = (1.0,)
    guidance: FeatureMaps | tuple[()] = ()
    content_weights: FeatureMaps | tuple[()] = ()
    references: References | tuple[()] = ()
    options: dict[str, PyTree] | tuple[()] = ()


def with_options(structure: Structure, problem: Problem) -> Problem:
    """Returns a problem that has traced options: those of the structure where it had none."""
    return problem if problem.options else problem._replace(options=structure.numbers)


class Terms(NamedTuple):
    """Every term of the loss before its weight: by layer for content and style, and TV."""

    content: dict[str, Scalar]
    style: dict[str, Scalar]
    tv: Scalar


def seen(structure: Structure, image: Image) -> Image:
    """Returns what the loss sees of a picture: all of it, or its luminance."""
    return grey(image) if structure.luminance else image


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
        padding=structure.padding,
    )
    return {layer: structure.smoothing(feature) for layer, feature in features.items()}


def key_of(seed: PyTree) -> PRNGKeyArray:
    """Returns the key of `Problem.seed`."""
    return jax.random.key(0 if isinstance(seed, tuple) else seed)


def content_targets(structure: Structure, params: Params, content: Image) -> FeatureMaps:
    """Returns the features of the content picture, in [0, `value_range`], by content layer."""
    return features_of(structure, params, seen(structure, content), structure.content_layers)


def style_targets(
    structure: Structure, params: Params, style: Image, guidance: FeatureMaps | None = None
) -> dict[str, tuple[PyTree, ...]]:
    """Returns the statistics of a style picture, in [0, `value_range`], by style layer.

    Those of the whole picture, one; or where there is a guidance, as in `Problem`, of each region.
    Of several pictures they are joined in the order of `Structure.regions`.
    """
    features = features_of(structure, params, seen(structure, style), structure.style_layers)
    loss = structure.style_loss
    by_layer = _looked_at(structure, features)
    if guidance is None:
        return {layer: (loss.statistic(own),) for layer, own in by_layer.items()}
    return {
        layer: tuple(loss.of_region(own, region) for region in guidance[layer])
        for layer, own in by_layer.items()
    }


def _looked_at(structure: Structure, features: FeatureMaps) -> dict[str, PyTree]:
    by_depth = functools.partial(depth, network=structure.network)
    layers = tuple(sorted(structure.style_layers, key=by_depth))
    return structure.style_loss.looked_at(features, layers) if layers else {}


def evaluate(structure: Structure, image: Image, problem: Problem) -> tuple[Scalar, Terms]:
    """Returns the total loss of a picture, and its terms before their weights.

    Args:
      structure: static; mark it so when you jit this function yourself.
      image: RGB in [0, `structure.value_range`], of the content picture's shape where there are
        content layers.
      problem: weights of the network, targets, weights of the terms.
    """
    structure = structure.bound(problem.options, problem.seed)
    image = seen(structure, image)
    features = features_of(structure, problem.params, image, structure.layers)
    tv = total_variation(image, structure.tv_kind, structure.value_range)
    terms = Terms(*terms_of(structure, features, problem, image.shape), tv)
    return weighted_total(terms, problem.weights), terms


def terms_of(
    structure: Structure, features: FeatureMaps, problem: Problem, shape: tuple[int, ...]
) -> tuple[dict[str, Scalar], dict[str, Scalar]]:
    """Returns the terms of content and of style, by layer, over their references.

    Args:
      structure: static.
      features: of a picture, of all layers.
      problem: targets, references and blend.
      shape: height and width of the picture.
    """
    content = content_distances(structure, features, problem)
    style = style_distances(structure, features, problem, shape)
    if problem.references:
        content, style = jax.tree.map(jnp.divide, (content, style), tuple(problem.references))
    return content, {layer: blended(problem.blend, own) for layer, own in style.items()}


def content_distances(
    structure: Structure, features: FeatureMaps, problem: Problem
) -> dict[str, Scalar]:
    """Returns how far features are from those of the content picture, by content layer."""

    def distance(layer: str) -> Scalar:
        own = problem.content_weights[layer] if problem.content_weights else 1.0
        target = problem.targets.content[layer]
        return structure.content_loss.distance(features[layer], target, own)

    return {layer: distance(layer) for layer in structure.content_layers}


def style_distances(
    structure: Structure, features: FeatureMaps, problem: Problem, shape: tuple[int, ...]
) -> dict[str, tuple[Scalar, ...]]:
    """Returns how far features are from each target of the style loss, by style layer.

    Args:
      structure: static.
      features: of a picture, of the style layers.
      problem: targets, guidance and seed.
      shape: height and width of the picture.
    """
    by_layer = _looked_at(structure, features)
    loss, pixels = structure.style_loss, shape[0] * shape[1]
    key = key_of(problem.seed)

    def distance(layer: str, target: PyTree, region: int | None) -> Scalar:
        if region is None:
            return loss.distance(by_layer[layer], target, key, pixels)
        assert problem.guidance
        found = loss.of_region(by_layer[layer], problem.guidance[layer][region])
        return loss.compare(found, target, pixels)

    return {
        layer: tuple(
            distance(layer, target, region)
            for target, region in zip(problem.targets.style[layer], structure.regions, strict=True)
        )
        for layer in structure.style_layers
    }


def blended(blend: Sequence[Float[Array, ""] | float], distances: Sequence[Scalar]) -> Scalar:
    """Returns the style term of a layer from the distances to its targets and their shares."""
    return sum(
        (share * distance for share, distance in zip(blend, distances, strict=True)),
        start=jnp.zeros(()),
    )


def weighted_total(terms: Terms, weights: LossWeights) -> Scalar:
    """Returns the sum of all terms times their weights."""
    products = jax.tree.map(lambda weight, term: weight * term, tuple(weights), tuple(terms))
    return jnp.sum(jnp.stack(jax.tree.leaves(products)))
