"""From pictures in memory to a stylised picture: where to start, what to minimise.

Everything here works on arrays; `job` puts files and configs around it.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from nstyle import tiles
from nstyle.arrays import FeatureMaps, Image
from nstyle.balance import grey_picture, references
from nstyle.errors import NstyleError, check_choice
from nstyle.networks import MEAN_PIXEL, Params, extent
from nstyle.objective import (
    LossWeights,
    Problem,
    References,
    Structure,
    Targets,
    content_targets,
    evaluate,
    style_targets,
)
from nstyle.solvers import (
    LBFGS,
    Objective,
    Outside,
    Solver,
    State,
    Step,
    Stopping,
    alone,
    minimize_together,
    step_of,
)

DISTRIBUTIONS = ("uniform", "normal")


@dataclass(frozen=True)
class Noise:
    """White noise, in the units of the picture that is optimised (white is its `value_range`).

    Attributes:
      distribution: `uniform`, from `low` to `high`, or `normal`, around `mean` with `std`.
      low: see `distribution`.
      high: see `distribution`.
      mean: see `distribution`.
      std: see `distribution`.
      around_mean_pixel: whether the mean pixel of the weights' family is added, so that the noise
        is what the network's own input starts from.
    """

    distribution: str = "uniform"
    low: float = 0.0
    high: float = 1.0
    mean: float = 0.5
    std: float = 0.2
    around_mean_pixel: bool = False

    def __post_init__(self) -> None:
        check_choice("noise.distribution", self.distribution, DISTRIBUTIONS)
        if self.high <= self.low:
            raise NstyleError(f"noise: low {self.low} is not below high {self.high}")
        if self.std <= 0:
            raise NstyleError(f"noise.std: {self.std} is not positive")


def noise_image(
    noise: Noise, key: PRNGKeyArray, shape: tuple[int, ...], structure: Structure
) -> Image:
    """Returns a picture of white noise of `shape` (height, width, 3)."""
    if noise.distribution == "uniform":
        image = jax.random.uniform(key, shape, minval=noise.low, maxval=noise.high)
    else:
        image = noise.mean + noise.std * jax.random.normal(key, shape)
    if noise.around_mean_pixel:
        image += structure.value_range * jnp.array(MEAN_PIXEL[structure.pixels])
    return image


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
    problem = Problem(params, targets, weights)
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


@functools.partial(jax.jit, static_argnums=0)
def content_target(
    structure: Structure, params: Params, content: Float[Array, "h w 3"]
) -> FeatureMaps:
    """Returns `objective.content_targets` of a picture in [0, 1], compiled."""
    return content_targets(structure, params, structure.value_range * content)


@functools.partial(jax.jit, static_argnums=0)
def style_target(
    structure: Structure,
    params: Params,
    style: Float[Array, "h w 3"],
    guidance: FeatureMaps | None = None,
) -> dict[str, tuple[Any, ...]]:
    """Returns `objective.style_targets` of a picture in [0, 1], compiled."""
    return style_targets(structure, params, structure.value_range * style, guidance)


def reference(structure: Structure, problem: Problem, photograph: Image | np.ndarray) -> References:
    """Returns `balance.references` of a picture in [0, 1], compiled."""
    return _references(structure, problem, structure.value_range * jnp.asarray(photograph))


_references = jax.jit(references, static_argnums=0)


@functools.lru_cache(maxsize=64)
def objective(structure: Structure) -> Objective:
    """Returns the objective of a structure, the same function for equal structures."""
    return functools.partial(evaluate, structure)


@functools.lru_cache(maxsize=64)
def tiled_objective(structure: Structure, tile: int) -> Outside:
    """Returns the same objective evaluated by tiles; see `tiles.value_and_grad`."""

    def value_and_grad(image: Image, problem: Problem) -> Any:
        return tiles.value_and_grad(structure, image, problem, tile)

    return Outside(value_and_grad, objective(structure))


def draws_afresh(structure: Structure, solver: Solver) -> bool:
    """Says whether each step of a run has a loss of its own, by other random numbers."""
    return structure.style_loss.is_random and solver.is_stochastic


def drawn_afresh(problem: Problem, step: int) -> Problem:
    """Returns the problem with another seed for each step."""
    own = 0 if isinstance(problem.seed, tuple) else int(problem.seed)
    seed = np.random.SeedSequence([own, step]).generate_state(1)[0]
    return problem._replace(seed=jnp.asarray(seed))


def _check_fits(structure: Structure, problem: Problem, shape: tuple[int, ...]) -> None:
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


class Stage(NamedTuple):
    """One size of a run that goes from coarse to fine.

    Attributes:
      problem: from `prepare`, with the pictures at this size.
      shape: of the picture, (height, width, 3).
      stopping: limits.
      tile: see `transfer`.
    """

    problem: Problem
    shape: tuple[int, ...]
    stopping: Stopping
    tile: int | None = None


class Detail(NamedTuple):
    """White noise in place of the detail that a picture lacks once it is scaled up.

    Attributes:
      std: in the units of the picture's pixels.
      key: each stage draws its own noise from it.
    """

    std: Float[Array, ""] | float
    key: PRNGKeyArray


def scaled_up(
    image: Image, shape: tuple[int, ...], detail: Detail | None, stage: int
) -> Float[Array, "larger_h larger_w 3"]:
    """Returns where a stage starts: the picture of the one before at its shape, with noise.

    A smooth picture is a poor start, as every style has detail: with some noise, of whichever kind,
    the steps that a size needs are fewer by a tenth.
    """
    image = jax.image.resize(image, shape, "cubic")
    if detail is None:
        return image
    return image + detail.std * jax.random.normal(jax.random.fold_in(detail.key, stage), shape)


class Run(NamedTuple):
    """A picture that is optimised at one size after another.

    Attributes:
      stages: from the coarsest; the last one's pictures have the size of the result.
      initial: where the first one starts, of its shape.
      detail: noise for each picture that was scaled up; None adds none.
    """

    stages: Sequence[Stage]
    initial: Image
    detail: Detail | None = None


def coarse_to_fine(
    structure: Structure,
    runs: Sequence[Run],
    solver: Solver = LBFGS(),  # noqa: B008, frozen
    resume: Sequence[State | None] | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Iterator[tuple[Step | NstyleError, ...]]:
    """Optimises pictures at one size after another, each from the one before, scaled up.

    The best picture of a stage is where the next one starts (Gatys et al. 2017, arXiv 1611.07865,
    go from low to high resolution so), with a solver that has forgotten all: its curvature was that
    of another problem, and taken over to the next size it makes steps worse, not better.

    Several runs go from size to size together: those that have ended a size wait for the others.
    One that fails does not disturb them. Only a run by itself is evaluated by tiles, or draws
    afresh for each step.

    Args:
      structure: static part of the objective, the same for all stages and runs.
      runs: shapes, limits and tiles of all are those of the first one.
      solver: the solver.
      resume: where an earlier process with the same arguments left each; None for one that starts.
      devices: to spread the runs over, see `solvers.minimize_together`.

    Yields:
      Where each run stands after every evaluation, or what was wrong with its first picture of a
      size.

    Raises:
      NstyleError: a picture is too small, or of another shape than the content picture.
    """
    states = resume or [None] * len(runs)
    found: dict[int, Step | NstyleError] = {
        i: _left(state) for i, state in enumerate(states) if state is not None
    }
    at = {i: _begin(run, states[i]) for i, run in enumerate(runs)}
    for number, stage in enumerate(runs[0].stages):
        here = [i for i in at if at[i].stage == number]
        if not here:
            continue
        is_final = number == len(runs[0].stages) - 1
        problems = [runs[i].stages[number].problem for i in here]
        starts = [_start(at[i], stage.shape, runs[i].detail) for i in here]
        for steps in _steps(structure, stage, starts, problems, solver, devices):
            for i, step in zip(here, steps, strict=True):
                found[i] = _counted(step, at[i], is_final) if isinstance(step, Step) else step
            yield tuple(found[i] for i in range(len(runs)))
        for i in here:
            end = found[i]
            if isinstance(end, NstyleError):
                del at[i]
            else:
                at[i] = _next(end)


def transfer(
    structure: Structure,
    problem: Problem,
    initial: Image,
    solver: Solver = LBFGS(),  # noqa: B008, frozen
    stopping: Stopping = Stopping(),  # noqa: B008, immutable
    resume: State | None = None,
    tile: int | None = None,
) -> Iterator[Step]:
    """Optimises a picture at one size; see `coarse_to_fine`.

    Args:
      structure: static part of the objective.
      problem: from `prepare`.
      initial: where to start, in [0, `structure.value_range`].
      solver: the solver.
      stopping: limits.
      resume: the state of an earlier step to go on from.
      tile: edge of the tiles by which the picture is evaluated; None evaluates it whole.

    Raises:
      NstyleError: the picture is too small, or of another shape than the content picture; or its
        loss or gradient is not finite.
    """
    run = Run([Stage(problem, initial.shape, stopping, tile)], initial)
    return alone(coarse_to_fine(structure, [run], solver, [resume]))


def _steps(
    structure: Structure,
    stage: Stage,
    starts: Sequence[Image | State],
    problems: Sequence[Problem],
    solver: Solver,
    devices: Sequence[jax.Device] | None,
) -> Iterator[tuple[Step | NstyleError, ...]]:
    """Returns the steps that runs make together at one size."""
    for problem in problems:
        _check_fits(structure, problem, stage.shape)
    tile = stage.tile
    return minimize_together(
        objective(structure) if tile is None else tiled_objective(structure, tile),
        starts,
        problems,
        solver,
        stage.stopping,
        structure.value_range,
        devices,
        functools.partial(drawn_afresh, problems[0]) if draws_afresh(structure, solver) else None,
    )


class _Place(NamedTuple):
    """Where a stage of a run begins, or goes on: its number, first step, and picture or state."""

    stage: int
    first: int
    start: Image | State


def _begin(run: Run, state: State | None) -> _Place:
    return _Place(0, 0, run.initial) if state is None else _Place(state.stage, state.first, state)


def _start(at: _Place, shape: tuple[int, ...], detail: Detail | None) -> Image | State:
    if isinstance(at.start, State) or at.start.shape == shape:
        return at.start
    return scaled_up(at.start, shape, detail, at.stage)


def _counted(step: Step, at: _Place, is_final: bool) -> Step:
    """Returns a step of a stage, the run's final one or not, as one of its run."""
    return dataclasses.replace(
        step,
        step=at.first + step.step,
        best_step=at.first + step.best_step,
        stage=at.stage,
        is_last=step.is_last and is_final,
        state=lambda: step.state()._replace(stage=at.stage, first=at.first),
    )


def _left(state: State) -> Step:
    """Returns the step at which an earlier process left a run."""
    step = step_of(
        state.numbers, state.aux, "", False, lambda: jnp.asarray(state.best_image), lambda: state
    )
    return _counted(step, _Place(state.stage, state.first, state), False)


def _next(end: Step) -> _Place:
    # By way of the host: the runs of the next stage may be spread over other devices.
    image = jnp.asarray(jax.device_get(end.best_image()))
    return _Place(end.stage + 1, end.step + 1, image)


def equal_weights(layers: tuple[str, ...], total: float) -> dict[str, Array | float]:
    """Returns `total` shared equally by `layers` (w_l of Gatys et al. 2015, equation 5)."""
    return {layer: total / len(layers) for layer in layers}
