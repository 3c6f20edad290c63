"""Which term does what to a picture: its share of the loss and of the gradient, and where.

Pure functions of a structure, a problem and a picture, for any losses. A weighted term's gradient
by the picture says which pixels it moves; its gradient by the features of its layers, where on the
picture these layers want something changed.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nstyle.arrays import FeatureMaps, Image, Scalar
from nstyle.objective.terms import (
    LossWeights,
    Problem,
    Structure,
    Terms,
    evaluate,
    features_of,
    seen,
    terms_of,
    weighted_total,
    with_options,
)


class Part(NamedTuple):
    """What one weighted term does at a picture.

    Attributes:
      loss: the term times its weight, over its reference where there is one.
      slope: its gradient by the picture, float32 (height, width, 3).
      pull: by layer, the norm over channels of its gradient by the layer's features, float32
        (h, w); empty for total variation.
    """

    loss: float
    slope: np.ndarray
    pull: dict[str, np.ndarray]


def parts(structure: Structure, image: Image, problem: Problem) -> dict[str, Part]:
    """Returns what each term does, by its name: `content/conv4_2`, `style/conv1_1`, `tv`.

    Args:
      structure: static part of the objective.
      image: in [0, `structure.value_range`].
      problem: with its weights; a term of no weight does nothing and is left out.
    """
    problem = with_options(structure, problem)
    weights = jax.tree.map(lambda weight: jnp.asarray(weight, jnp.float32), problem.weights)
    zero = jax.tree.map(jnp.zeros_like, weights)
    found = {}
    for name in _names(structure):
        own = _alone(name, zero, weights)
        if not any(float(weight) for weight in jax.tree.leaves(own)):
            continue
        alone = problem._replace(weights=own)
        loss, slope = _slope(structure.static, image, alone)
        pull = {} if name == "tv" else _pull(structure.static, image, alone)
        norms = {layer: np.asarray(norm) for layer, norm in pull.items() if np.any(norm)}
        found[name] = Part(float(loss), np.asarray(slope), norms)
    return found


def _names(structure: Structure) -> list[str]:
    content = (f"content/{layer}" for layer in structure.content_layers)
    return [*content, *(f"style/{layer}" for layer in structure.style_layers), "tv"]


def _alone(name: str, zero: LossWeights, weights: LossWeights) -> LossWeights:
    """Returns weights of zero but for one term."""
    kind, _, layer = name.partition("/")
    if kind == "tv":
        return zero._replace(tv=weights.tv)
    if kind == "content":
        return zero._replace(content={**zero.content, layer: weights.content[layer]})
    return zero._replace(style={**zero.style, layer: weights.style[layer]})


@functools.partial(jax.jit, static_argnums=0)
def _slope(structure: Structure, image: Image, problem: Problem) -> tuple[Scalar, Image]:
    def loss(image: Image) -> Scalar:
        return evaluate(structure, image, problem)[0]

    return jax.value_and_grad(loss)(image)


@functools.partial(jax.jit, static_argnums=0)
def _pull(structure: Structure, image: Image, problem: Problem) -> dict[str, Float[Array, "_ _"]]:
    structure = structure.bound(problem.options, problem.seed)
    picture = seen(structure, image)

    def loss(features: FeatureMaps) -> Scalar:
        terms = Terms(*terms_of(structure, features, problem, image.shape), jnp.zeros(()))
        return weighted_total(terms, problem.weights)

    slopes = jax.grad(loss)(features_of(structure, problem.params, picture, structure.layers))
    return {layer: jnp.linalg.norm(slope, axis=2) for layer, slope in slopes.items()}
