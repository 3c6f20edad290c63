"""References: what every term of a loss is worth for a picture that knows nothing of the answer.

A term over its reference is a number without a unit, which means the same for every pair of
pictures, layer, pooling, network and loss, and for most at every size:

- Content, over the loss of features that are everywhere the photograph's mean: the **share of the
  photograph that is unexplained**. 0 is the photograph; at 1 a flat picture does as well. For the
  Euclidean loss this is the fraction of variance unexplained, mean (F - P)^2 / var P.
- Style, over the distance of the photograph itself: the **share of the style distance that is
  left**. 1 is the photograph as it is, 0 has the painting's statistics. A run without a photograph
  has a flat grey picture in its place.

A reference is never less than `CONTENT_FLOOR` or `STYLE_FLOOR` times the loss of a picture without
any features: a photograph that is like the painting already, or a flat one, would else make a
great loss of next to nothing. Where that is zero too, a term is left as it is.
"""

import jax
import jax.numpy as jnp
import numpy as np

from nstyle.arrays import FeatureMaps, Image, Scalar
from nstyle.objective.terms import (
    Problem,
    References,
    Structure,
    content_distances,
    features_of,
    seen,
    style_distances,
)

#: Least reference, in parts of the loss of a picture without any features: of the energy of the
#: photograph's features, and of the painting's own statistic.
CONTENT_FLOOR, STYLE_FLOOR = 0.01, 0.01


def references(structure: Structure, problem: Problem, photograph: Image) -> References:
    """Returns what the terms of a problem are divided by.

    Args:
      structure: static.
      problem: targets and all else that its distances depend on.
      photograph: in [0, `structure.value_range`], of the result's shape; see `grey_picture`.
    """
    structure = structure.bound(problem.options, problem.seed)
    image = seen(structure, photograph)
    features = features_of(structure, problem.params, image, structure.style_layers)
    targets = problem.targets.content
    nothing = _zeros(features)
    flat = {
        layer: jnp.broadcast_to(jnp.mean(target, axis=(0, 1)), target.shape)
        for layer, target in targets.items()
    }
    return References(
        jax.tree.map(
            lambda of_flat, energy: worth(of_flat, CONTENT_FLOOR * energy),
            content_distances(structure, flat, problem),
            content_distances(structure, _zeros(targets), problem),
        ),
        jax.tree.map(
            lambda of_photograph, energy: worth(of_photograph, STYLE_FLOOR * energy),
            style_distances(structure, features, problem, image.shape),
            style_distances(structure, nothing, problem, image.shape),
        ),
    )


def _zeros(features: FeatureMaps) -> FeatureMaps:
    # Behind a barrier: of constant zeros XLA on the CPU makes products that are not finite.
    return jax.lax.optimization_barrier(jax.tree.map(jnp.zeros_like, features))


def worth(reference: Scalar, floor: Scalar) -> Scalar:
    """Returns a reference that can be divided by: not below its floor, 1 where both are zero."""
    found = jnp.maximum(reference, floor)
    return jnp.where(found > 0, found, 1.0)


def grey_picture(shape: tuple[int, ...]) -> np.ndarray:
    """Returns the flat picture in [0, 1], in the place of a photograph that a run has not."""
    return np.full(shape, 0.5, np.float32)
