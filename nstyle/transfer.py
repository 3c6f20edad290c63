"""From pictures in memory to a stylised picture: where to start, what to minimise.

Everything here works on arrays; `job` puts files and configs around it.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from nstyle import tiles
from nstyle.arrays import FeatureMaps, Image
from nstyle.balance import grey_picture, references
from nstyle.batch import Member, minimize_batch, stacked
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
from nstyle.solver import (
    LBFGS,
    Course,
    Iteration,
    Method,
    Objective,
    Outside,
    Stopping,
    check_start,
    iteration,
    minimize,
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


def transfer(
    structure: Structure,
    problem: Problem,
    initial: Image,
    method: Method = LBFGS(),  # noqa: B008, frozen
    stopping: Stopping = Stopping(),  # noqa: B008, immutable
    resume: Course | None = None,
    tile: int | None = None,
) -> Iterator[Iteration]:
    """Optimises a picture; see `solver.minimize`.

    A style loss that draws directions or positions draws them afresh for each step of Adam and of
    gradient descent; for L-BFGS, which needs one function, once.

    Args:
      structure: static part of the objective.
      problem: from `prepare`.
      initial: where to start, in [0, `structure.value_range`].
      method: the solver.
      stopping: limits.
      resume: the course of an earlier iteration to go on from.
      tile: edge of the tiles by which the picture is evaluated; None evaluates it whole.

    Raises:
      NstyleError: the picture is too small, or of another shape than the content picture.
    """
    _check_fits(structure, problem, initial.shape)
    function = objective(structure) if tile is None else tiled_objective(structure, tile)
    afresh = functools.partial(drawn_afresh, problem) if draws_afresh(structure, method) else None
    return minimize(
        function, initial, problem, method, stopping, structure.value_range, resume, afresh
    )


def draws_afresh(structure: Structure, method: Method) -> bool:
    """Says whether each step of a run has a loss of its own, by other random numbers."""
    return structure.style_loss.is_random and not isinstance(method, LBFGS)


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


class Standing(NamedTuple):
    """Where a run in stages stands: all that its next steps depend on.

    Attributes:
      stage: its number, from 0.
      first: the number of the stage's first step, counted over all stages.
      course: of the stage; see `solver.Course`.
    """

    stage: int
    first: int
    course: Course


class Moment(NamedTuple):
    """A step of a run in stages.

    Attributes:
      stage: its number, from 0.
      first: the number of the stage's first step, counted over all stages.
      last: whether the run ends here.
      iteration: see `solver.minimize` and `batch.minimize_batch`; its own steps count from the
        stage's start.
      best_image: () -> the picture of this stage's lowest loss so far.
      course: () -> what the stage goes on from; see `Iteration.course` and `Round.course`.
    """

    stage: int
    first: int
    last: bool
    iteration: Iteration | Member
    best_image: Callable[[], Image]
    course: Callable[[], Course]

    @property
    def step(self) -> int:
        """Counted over all stages."""
        return self.first + self.iteration.step

    @property
    def best_step(self) -> int:
        """Of this stage's lowest loss so far, counted over all stages."""
        return self.first + self.iteration.best_step

    @property
    def standing(self) -> Standing:
        """To go on from; to be taken before the next step, which uses its arrays up."""
        return Standing(self.stage, self.first, self.course())


class Turn(NamedTuple):
    """What `coarse_to_fine_batch` yields after every evaluation of the batch.

    Attributes:
      moments: where each member stands; those that failed or have not begun are missing.
      advanced: the members that have made a step.
      failures: why members have failed at their first picture of a size; they are left out from
        there on.
    """

    moments: Mapping[int, Moment]
    advanced: tuple[int, ...]
    failures: Mapping[int, NstyleError]


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


def coarse_to_fine(
    structure: Structure,
    stages: Sequence[Stage],
    initial: Image,
    method: Method = LBFGS(),  # noqa: B008, frozen
    detail: Detail | None = None,
    resume: Standing | None = None,
) -> Iterator[Moment]:
    """Optimises a picture at one size after another, each from the one before, scaled up.

    The best picture of a stage is where the next one starts (Gatys et al. 2017, arXiv 1611.07865,
    go from low to high resolution so), with a solver that has forgotten all: its curvature was that
    of another problem, and taken over to the next size it makes steps worse, not better.

    Args:
      structure: static part of the objective, the same for all stages.
      stages: from the coarsest; the last one's pictures have the size of the result.
      initial: where the first one starts, of its shape.
      method: the solver.
      detail: noise for each picture that was scaled up; None adds none.
      resume: where an earlier run with the same arguments stood.
    """
    at = _begin(initial, resume)
    for number, stage in list(enumerate(stages))[at.stage :]:
        image = _start(at, stage.shape, detail)
        end = _arrival(at)  # of a stage that had just ended
        for reached in transfer(
            structure, stage.problem, image, method, stage.stopping, at.course, stage.tile
        ):
            last = bool(reached.stop) and number == len(stages) - 1
            end = _alone(at, last, reached)
            yield end
        assert end is not None, "a minimisation yields its first picture"
        at = _next(end)


def coarse_to_fine_batch(
    structure: Structure,
    stages: Sequence[Sequence[Stage]],
    initials: Sequence[Image],
    method: Method = LBFGS(),  # noqa: B008, frozen
    details: Sequence[Detail | None] | None = None,
    resume: Sequence[Standing | None] | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Iterator[Turn]:
    """Optimises several pictures together, each as `coarse_to_fine` does; see `minimize_batch`.

    Members go from size to size together: those that have ended a size wait for the others. One
    that fails does not disturb them. Nothing is evaluated by tiles, nor drawn afresh.

    Args:
      structure: static part of the objective, of all members.
      stages: of each member; shapes and limits are those of the first one.
      initials: where each starts.
      method: the solver.
      details: of each, see `coarse_to_fine`; None for none.
      resume: where each stood; None for one that starts, or for all.
      devices: to spread the members over, see `minimize_batch`.

    Raises:
      NstyleError: a picture is too small, or of another shape than the content picture.
    """
    size = len(initials)
    details, resume = details or [None] * size, resume or [None] * size
    at = {i: _begin(*pair) for i, pair in enumerate(zip(initials, resume, strict=True))}
    moments = {i: found for i in at if (found := _arrival(at[i])) is not None}
    lost: set[int] = set()
    for number, common in enumerate(stages[0]):
        here = [i for i in at if at[i].stage == number]
        if not here:
            continue
        problems = [stages[i][number].problem for i in here]
        for problem in problems:
            _check_fits(structure, problem, common.shape)
        args, axes = stacked(problems)
        rounds = minimize_batch(
            objective(structure),
            jnp.stack([_start(at[i], common.shape, details[i]) for i in here]),
            args,
            axes,
            method,
            common.stopping,
            structure.value_range,
            [at[i].course for i in here],
            devices,
        )
        for turn in rounds:
            advanced = tuple(here[place] for place in turn.advanced)
            failures = {}
            for place, (i, member) in enumerate(zip(here, turn.members, strict=True)):
                moments[i] = Moment(
                    number,
                    at[i].first,
                    bool(member.stop) and number == len(stages[0]) - 1,
                    member,
                    functools.partial(turn.best_image, place),
                    functools.partial(turn.course, place),
                )
                if i in advanced and (error := _failure(member)):
                    failures[i] = error
            lost |= failures.keys()
            standing = {i: moment for i, moment in moments.items() if i not in lost}
            yield Turn(standing, tuple(i for i in advanced if i not in lost), failures)
        at = {i: _next(moments[i]) if i in here else at[i] for i in at if i not in lost}


class _Place(NamedTuple):
    """Where a stage of a run begins, or goes on: its number, first step, course and picture."""

    stage: int
    first: int
    course: Course | None
    image: Image


def _begin(initial: Image, resume: Standing | None) -> _Place:
    if resume is None:
        return _Place(0, 0, None, initial)
    return _Place(*resume, jnp.asarray(resume.course.best_image))


def _start(at: _Place, shape: tuple[int, ...], detail: Detail | None) -> Image:
    return at.image if at.image.shape == shape else scaled_up(at.image, shape, detail, at.stage)


def _arrival(at: _Place) -> Moment | None:
    """Returns the moment in which a run was left, None of one that begins."""
    return None if at.course is None else _alone(at, False, iteration(at.course, ""))


def _alone(at: _Place, last: bool, reached: Iteration) -> Moment:
    return Moment(
        at.stage, at.first, last, reached, lambda: reached.best_image, lambda: reached.course
    )


def _next(end: Moment) -> _Place:
    # By way of the host: the members of the next batch may be spread over other devices.
    image = jnp.asarray(jax.device_get(end.best_image()))
    return _Place(end.stage + 1, end.step + 1, None, image)


def _failure(member: Member) -> NstyleError | None:
    """Returns what `minimize` raises at a first picture that is of no use."""
    try:
        if member.step == 0:
            check_start(member.value, member.gradient_norm)
    except NstyleError as error:
        return error
    return None


def equal_weights(layers: tuple[str, ...], total: float) -> dict[str, Array | float]:
    """Returns `total` shared equally by `layers` (w_l of Gatys et al. 2015, equation 5)."""
    return {layer: total / len(layers) for layer in layers}
