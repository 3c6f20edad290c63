"""From pictures in memory to a problem: targets, references and weights, compiled."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nstyle.arrays import FeatureMaps, Image, PyTree
from nstyle.errors import NstyleError
from nstyle.networks import Params, extent
from nstyle.objective import tiles
from nstyle.objective.balance import grey_picture, references
from nstyle.objective.terms import (
    LossWeights,
    Problem,
    References,
    Structure,
    Targets,
    content_targets,
    evaluate,
    style_targets,
    with_options,
)
from nstyle.solvers import Objective, Outside, Solver


def prepare(
    structure: Structure,
    params: Params,
    weights: LossWeights,
    content: Float[Array | np.ndarray, "h w 3"] | None,
    style: Float[Array | np.ndarray, "style_h style_w 3"] | None,
    balanced: bool = False,
) -> Problem:
    """Computes the targets and gathers all that the loss needs but the picture.

    Of one style picture, compared as a whole; `job.build` has several, and regions.

    Args:
      structure: static part of the objective.
      params: weights of the network.
      weights: weights of the terms, one for every layer of `structure`.
      content: picture in [0, 1]; not needed without content layers.
      style: picture in [0, 1], of any size; not needed without style layers.
      balanced: whether terms are divided by their references (see `balance`); without a content
        picture by those of a grey one.

    Raises:
      NstyleError: a picture is missing, or too small for the deepest layer.
    """
    pictures = {"content": content, "style": style}
    for name, layers in (("content", structure.content_layers), ("style", structure.style_layers)):
        if set(getattr(weights, name)) != set(layers):
            raise NstyleError(f"weights.{name}: a weight is needed for each of {list(layers)}")
    for name, layers in (("content", structure.content_layers), ("style", structure.style_layers)):
        picture = pictures[name]
        if layers and picture is None:
            raise NstyleError(f"{name}: a picture is needed for {name}_layers={list(layers)}")
        if layers and picture is not None:
            check_size(structure, name, picture.shape)
    params, content, style = jax.tree.map(jnp.asarray, (params, content, style))
    targets = Targets(
        content={} if content is None else content_target(structure, params, content),
        style={} if style is None else style_target(structure, params, style),
    )
    problem = Problem(params, targets, weights, options=structure.numbers)
    if not balanced:
        return problem
    photograph = grey_picture(style.shape) if content is None else content
    return problem._replace(references=reference(structure, problem, photograph))


def check_size(structure: Structure, name: str, shape: tuple[int, ...]) -> None:
    """Raises NstyleError where a picture is too small for the deepest layer of `structure`."""
    least, short = structure.minimum_size, min(shape[:2])
    if short < least:
        enough = math.ceil(max(shape[:2]) * least / (short - 0.5))  # sides are rounded
        raise NstyleError(
            f"{name}: {shape[1]} x {shape[0]} pixels are too few for the deepest layer"
            f" (at least {least} x {least}; a long side of {enough} would do)"
        )


def content_target(
    structure: Structure, params: Params, content: Image | np.ndarray, seed: PyTree = ()
) -> FeatureMaps:
    """Returns `objective.content_targets` of a picture in [0, 1], compiled."""
    picture = jnp.asarray(content)
    return _content_target(structure.static, params, picture, structure.numbers, seed)


@functools.partial(jax.jit, static_argnums=0)
def _content_target(
    structure: Structure, params: Params, content: Image, options: PyTree, seed: PyTree
) -> FeatureMaps:
    bound = structure.bound(options, seed)
    return content_targets(bound, params, structure.value_range * content)


def style_target(
    structure: Structure,
    params: Params,
    style: Image | np.ndarray,
    guidance: FeatureMaps | None = None,
    seed: PyTree = (),
) -> dict[str, tuple[PyTree, ...]]:
    """Returns `objective.style_targets` of a picture in [0, 1], compiled."""
    picture = jnp.asarray(style)
    return _style_target(structure.static, params, picture, guidance, structure.numbers, seed)


@functools.partial(jax.jit, static_argnums=0)
def _style_target(
    structure: Structure,
    params: Params,
    style: Image,
    guidance: FeatureMaps | None,
    options: PyTree,
    seed: PyTree,
) -> dict[str, tuple[PyTree, ...]]:
    bound = structure.bound(options, seed)
    return style_targets(bound, params, structure.value_range * style, guidance)


def reference(structure: Structure, problem: Problem, photograph: Image | np.ndarray) -> References:
    """Returns `balance.references` of a picture in [0, 1], compiled."""
    picture = structure.value_range * jnp.asarray(photograph)
    return _references(structure.static, with_options(structure, problem), picture)


_references = jax.jit(references, static_argnums=0)


@functools.lru_cache(maxsize=64)
def objective(structure: Structure) -> Objective:
    """Returns the objective of a structure, the same function for equal structures.

    Of its `static` part there is one for all values of the traced options, which problems have.
    """
    return functools.partial(evaluate, structure)


@functools.lru_cache(maxsize=64)
def tiled_objective(structure: Structure, tile: int) -> Outside:
    """Returns the same objective evaluated by tiles; see `objective.value_and_grad`."""

    def value_and_grad(image: Image, problem: Problem) -> PyTree:
        return tiles.value_and_grad(structure, image, problem, tile)

    return Outside(value_and_grad, objective(structure))


def draws_afresh(structure: Structure, solver: Solver) -> bool:
    """Says whether each step of a run has a loss of its own, by other random numbers."""
    return structure.is_random and solver.is_stochastic


def drawn_afresh(problem: Problem, step: int) -> Problem:
    """Returns the problem with another seed for each step."""
    own = 0 if isinstance(problem.seed, tuple) else int(problem.seed)
    seed = np.random.SeedSequence([own, step]).generate_state(1)[0]
    return problem._replace(seed=jnp.asarray(seed))


def check_fits(structure: Structure, problem: Problem, shape: tuple[int, ...]) -> None:
    """Raises NstyleError where a picture of this shape cannot be compared with the targets."""
    check_size(structure, "init", shape)
    for layer, target in problem.targets.content.items():
        seen = extent(layer, structure.network, shape)
        if seen != target.shape[:2]:
            raise NstyleError(
                f"init: {shape[1]} x {shape[0]} pixels are not of the content"
                f" picture's size: {layer} has {seen[0]} x {seen[1]} positions instead of"
                f" {target.shape[0]} x {target.shape[1]}"
            )


def equal_weights(layers: tuple[str, ...], total: float) -> dict[str, Array | float]:
    """Returns `total` shared equally by `layers` (w_l of Gatys et al. 2015, equation 5)."""
    return {layer: total / len(layers) for layer in layers}
