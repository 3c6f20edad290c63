"""Training a feed-forward network on a perceptual loss: pure functions of arrays.

The loss of a picture is `objective.evaluate` of what the network makes: the content picture is the
photograph that it saw, the style targets are those of its styles (Johnson et al. 2016, section 3).
A network that makes pictures larger saw the photograph reduced, and has no style.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from nstyle.errors import NstyleError
from nstyle.feedforward.network import Architecture, NetParams, initial_params, transformed
from nstyle.feedforward.resolution import reduced
from nstyle.files import Json
from nstyle.networks import Params
from nstyle.objective import (
    LossWeights,
    Problem,
    References,
    Structure,
    Targets,
    Terms,
    content_targets,
    evaluate,
)

#: Share of the steps, and most steps, over which the learning rate rises.
_RISE, _LONGEST_RISE = 0.05, 100


@dataclass(frozen=True)
class Recipe:
    """The static part of a training; hashable.

    Attributes:
      structure: of the loss; its `precision` is that of both networks.
      architecture: of the network that is trained.
      steps: all of them, along which the learning rate changes.
      learning_rate: of Adam, after a short linear rise.
      final_rate: what is left of it at the end, in parts; it falls along a cosine (Loshchilov and
        Hutter 2017, arXiv 1608.03983).
    """

    structure: Structure
    architecture: Architecture
    steps: int
    learning_rate: float = 1e-3
    final_rate: float = 0.01

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Adam with the schedule."""
        schedule = optax.warmup_cosine_decay_schedule(
            init_value=0.1 * self.learning_rate,
            peak_value=self.learning_rate,
            warmup_steps=min(_LONGEST_RISE, int(_RISE * self.steps)),
            decay_steps=self.steps,
            end_value=self.final_rate * self.learning_rate,
        )
        return optax.adam(schedule)


class State(NamedTuple):
    """Where a training stands.

    Attributes:
      step: how many steps were made.
      params: of the network.
      moments: of Adam.
    """

    step: Int[Array, ""]
    params: NetParams
    moments: Any


class Goal(NamedTuple):
    """What the losses of a training are evaluated with; all traced.

    Attributes:
      params: weights of the network that the losses see by.
      styles: style targets, those of all styles stacked.
      weights: of the terms.
      references: what terms are divided by, see `objective.Problem`; of style, one for each style.
    """

    params: Params
    styles: Json
    weights: LossWeights
    references: References | tuple[()] = ()


def initial_state(recipe: Recipe, seed: int) -> State:
    """Returns the state before the first step."""
    params = initial_params(recipe.architecture, jax.random.key(seed))
    return State(jnp.zeros((), jnp.int32), params, recipe.optimizer.init(params))


def stacked_styles(targets: Sequence[Json]) -> Json:
    """Returns the targets of several styles as one, with an axis for the style.

    Raises:
      NstyleError: the loss keeps a target for each position, and the pictures differ in size.
    """
    shapes = [[leaf.shape for leaf in jax.tree.leaves(target)] for target in targets]
    if any(shape != shapes[0] for shape in shapes):
        raise NstyleError(
            "style: this style loss compares positions: give style pictures of one shape"
        )
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *targets)


def perceptual_loss(
    recipe: Recipe,
    params: NetParams,
    goal: Goal,
    pictures: Float[Array, "b h w 3"],
    styles: Int[Array, "b"],
    seed: Int[Array, ""] | int = 0,
) -> tuple[Float[Array, ""], Terms]:
    """Returns the loss of what the network makes, and its terms before their weights.

    Args:
      recipe: static.
      params: of the network that is trained.
      goal: what the losses are evaluated with.
      pictures: photographs, RGB in [0, 1].
      styles: the style to paint each in.
      seed: of what a style loss draws.

    Returns:
      Means over the pictures.
    """
    structure = recipe.structure
    mixtures = jax.nn.one_hot(styles, recipe.architecture.styles)
    given = network_input(recipe.architecture, pictures)
    painted = transformed(recipe.architecture, params, given, mixtures, structure.precision)

    def loss(image: Any, picture: Any, style: Any) -> tuple[Float[Array, ""], Terms]:
        content = content_targets(structure, goal.params, structure.value_range * picture)
        target, references = goal.styles, goal.references
        target = jax.tree.map(lambda leaf: leaf[style], target)
        if references:
            own = jax.tree.map(lambda leaf: leaf[style], references.style)
            references = References(references.content, own)
        problem = Problem(
            goal.params, Targets(content, target), goal.weights, seed, references=references
        )
        return evaluate(structure, structure.value_range * image, problem)

    means: tuple[Float[Array, ""], Terms] = jax.tree.map(
        lambda values: jnp.mean(values, axis=0), jax.vmap(loss)(painted, pictures, styles)
    )
    return means


def network_input(
    architecture: Architecture, pictures: Float[Array, "b h w 3"]
) -> Float[Array, "b h_ w_ 3"]:
    """Returns what a network is to make pictures from: themselves, or small copies of them."""
    return reduced(pictures, architecture.upscale) if architecture.upscale else pictures


@functools.lru_cache(maxsize=2)
def compile_step(
    recipe: Recipe,
) -> Callable[[State, Goal, Any, Any], tuple[State, Float[Array, ""], Terms]]:
    """Returns a training step: `(state, goal, pictures, styles) -> (state, loss, terms)`.

    Where pictures are spread over devices and all else is on each (`spread`), the step is made on
    all of them: gradients are means over the pictures, whatever the device.
    """

    @jax.jit
    def step(
        state: State,
        goal: Goal,
        pictures: Float[Array, "b h w 3"],
        styles: Int[Array, "b"],
    ) -> tuple[State, Float[Array, ""], Terms]:
        def loss(params: NetParams) -> tuple[Float[Array, ""], Terms]:
            return perceptual_loss(recipe, params, goal, pictures, styles, state.step)

        (value, terms), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
        updates, moments = recipe.optimizer.update(gradient, state.moments, state.params)
        params = optax.apply_updates(state.params, updates)
        return State(state.step + 1, params, moments), value, terms

    return step


class Spread(NamedTuple):
    """Where arrays lie: parts of a batch, one on each device, and copies of all else."""

    parts: NamedSharding
    copies: NamedSharding


def spread(devices: Sequence[jax.Device], batch_size: int) -> Spread:
    """Returns where a training's arrays lie on several devices.

    Raises:
      NstyleError: the batch cannot be shared out equally.
    """
    if batch_size % len(devices):
        raise NstyleError(
            f"batch_size: {batch_size} is not a multiple of the {len(devices)} devices"
        )
    mesh = Mesh(devices, ("pictures",))
    return Spread(
        NamedSharding(mesh, PartitionSpec("pictures")), NamedSharding(mesh, PartitionSpec())
    )
