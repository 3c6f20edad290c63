"""Optimisation of a picture: where it starts, and one size after another.

Everything here works on arrays; the room `runs` puts files and settings around it.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from nstyle.arrays import Image
from nstyle.errors import NstyleError, check_choice
from nstyle.networks import MEAN_PIXEL
from nstyle.objective.problems import (
    check_fits,
    drawn_afresh,
    draws_afresh,
    objective,
    tiled_objective,
)
from nstyle.objective.terms import Problem, Structure
from nstyle.solvers import LBFGS, Solver, State, Step, Stopping, alone, minimize_together, step_of

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
    """What a picture lacks once it is scaled up: detail of the first picture, and white noise.

    Attributes:
      share: how much of the first picture's detail is added: 1 adds to the first picture, at each
        size, what the sizes before have changed of it (Kolkin et al. 2019, arXiv 1904.12785,
        section 2.5, whose photograph's Laplacian is added so).
      first: (shape) -> the first picture at that shape; None adds noise alone.
      std: of the noise, in the units of the picture's pixels; at 0 none is drawn.
      key: each stage draws its own noise from it.
    """

    share: float
    first: Callable[[tuple[int, ...]], Image] | None
    std: float
    key: PRNGKeyArray


def scaled_up(
    image: Image, shape: tuple[int, ...], detail: Detail | None, stage: int
) -> Float[Array, "larger_h larger_w 3"]:
    """Returns where a stage starts: the picture of the one before at its shape, with detail."""
    scaled = jax.image.resize(image, shape, "cubic")
    if detail is None:
        return scaled
    if detail.first is not None:
        blurred = jax.image.resize(detail.first(image.shape), shape, "cubic")
        scaled += detail.share * (detail.first(shape) - blurred)
    if not detail.std:
        return scaled
    return scaled + detail.std * jax.random.normal(jax.random.fold_in(detail.key, stage), shape)


class Run(NamedTuple):
    """A picture that is optimised at one size after another.

    Attributes:
      stages: from the coarsest; the last one's pictures have the size of the result.
      initial: where the first one starts, of its shape.
      detail: what each picture that was scaled up gets; None adds nothing.
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

    The best picture of a stage is where the next one starts, with what detail the run adds (Gatys
    et al. 2017, arXiv 1611.07865, go from low to high resolution so). The solver forgets all: its
    curvature was that of another problem, and taken over to the next size it makes steps worse.

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
        check_fits(structure, problem, stage.shape)
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
