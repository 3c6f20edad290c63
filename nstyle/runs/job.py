"""From a plan to pictures: the problem of each size, the steps of runs, and what they say."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nstyle import images
from nstyle.arrays import FeatureMaps
from nstyle.errors import NstyleError
from nstyle.files import Json
from nstyle.images import colour
from nstyle.objective import LossWeights, Problem, References, Structure, Targets, tiles
from nstyle.objective.balance import grey_picture
from nstyle.objective.problems import content_target, objective, reference, style_target
from nstyle.objective.regions import Guide, pooled
from nstyle.objective.stages import Detail, Run, Stage, coarse_to_fine
from nstyle.runs.inputs import Network, Picture, Size, scaled_to
from nstyle.runs.planning import Plan
from nstyle.solvers import Solver, State, Step, Stopping, alone, blank_state


class Job(NamedTuple):
    """A run, ready to start.

    Attributes:
      structure: static part of the objective.
      stages: a problem for each size, from the coarsest to that of the result.
      initial: the first picture, of the coarsest size, in [0, `structure.value_range`].
      solver: the solver.
      detail: see `stages.Run`.
      photograph: whose chrominance the written pictures get, float32 (height, width, 3) in [0, 1];
        None leaves them as they were optimised.
    """

    structure: Structure
    stages: tuple[Stage, ...]
    initial: jax.Array
    solver: Solver
    detail: Detail | None
    photograph: np.ndarray | None = None

    @property
    def steps(self) -> int:
        """The number of the last step, counted over all stages, if none ends early."""
        return sum(stage.stopping.steps + 1 for stage in self.stages) - 1


class _Scene(NamedTuple):
    """What a run's targets and references are made of; hashable, so that they are kept by it.

    Attributes: see `Plan`, whose paintings are those recoloured; and the seed of a random loss.
    """

    structure: Structure
    network: Network
    content: Picture | None
    styles: tuple[Picture, ...]
    guide: Guide | None
    content_map: Picture | None
    seed: int | None


def build(planned: Plan) -> Job:
    """Computes targets and references, once for each picture and structure; gathers the rest."""
    structure, network = planned.structure, planned.network
    scene = _Scene(
        structure,
        network,
        planned.content,
        planned.recoloured,
        planned.guide,
        planned.content_map,
        planned.detail.seed if structure.is_random else None,
    )

    def stage(size: Size) -> Stage:
        scale = max(size.shape) / max(planned.sizes[-1].shape)
        problem = _problem(scene, size, scale)._replace(
            weights=planned.weights, blend=planned.blend
        )
        if planned.balanced:
            problem = problem._replace(references=_references(scene, size._replace(steps=0), scale))
        return Stage(problem, size.shape, Stopping(size.steps, planned.tolerance), size.tile)

    return Job(
        structure.static,
        tuple(stage(size) for size in planned.sizes),
        structure.value_range * jnp.asarray(planned.initial.array),
        planned.solver,
        _detail(planned),
        planned.content.array if structure.luminance and planned.content is not None else None,
    )


def _detail(planned: Plan) -> Detail | None:
    white = planned.structure.value_range
    share, first, std, seed = planned.detail
    if first is None:
        return Detail(0.0, None, std * white, jax.random.key(seed)) if std else None
    picture = first.array

    def first_at(shape: tuple[int, ...]) -> jax.Array:
        return white * jnp.asarray(scaled_to(picture, shape))

    return Detail(share, first_at, std * white, jax.random.key(seed))


def _problem(scene: _Scene, size: Size, scale: float) -> Problem:
    """Returns the problem of a size, its terms not weighted yet.

    Args:
      scene: what it is made of.
      size: the shapes of its pictures.
      scale: of the size, in parts of the result's.
    """
    structure, network, content, styles, guide, content_map, seed = scene
    shape, draws = size.shape, () if seed is None else seed
    style_targets: dict[str, tuple[Any, ...]] = dict.fromkeys(structure.style_layers, ())
    for number, (style, own_shape) in enumerate(zip(styles, size.style_shapes, strict=True)):
        if guide is None or guide.is_whole(number):
            own = _style_target(structure, network, style, own_shape, size.tile, draws)
            copies = 1 if guide is None else len(guide.served(number))
        else:
            own = _guided_target(structure, network, style, own_shape, guide, number, scale, draws)
            copies = 1
        style_targets = {layer: style_targets[layer] + copies * own[layer] for layer in own}
    content_targets = (
        {}
        if content is None
        else _content_target(structure, network, content, shape, size.tile, draws)
    )
    return Problem(
        network.params,
        Targets(content_targets, style_targets),
        LossWeights({}, {}),
        _traced(draws),
        guidance=() if guide is None else _guidance(structure, guide, shape, scale),
        content_weights=()
        if content_map is None
        else _content_weights(structure, content_map, shape),
        options=structure.numbers,
    )


def _traced(seed: int | tuple[()]) -> jax.Array | tuple[()]:
    """Returns a seed as programs take it: all of its 32 bits."""
    return () if isinstance(seed, tuple) else jnp.asarray(seed, jnp.uint32)


@functools.lru_cache(maxsize=1024)
def _references(scene: _Scene, size: Size, scale: float) -> References:
    structure, problem = scene.structure, _problem(scene, size, scale)
    content = scene.content
    photograph = (
        grey_picture(size.shape) if content is None else scaled_to(content.array, size.shape)
    )
    if size.tile is None:
        return reference(structure, problem, photograph)
    return tiles.references(structure, problem, structure.value_range * photograph, size.tile)


@functools.lru_cache(maxsize=8)
def _content_target(
    structure: Structure,
    network: Network,
    content: Picture,
    shape: tuple[int, ...],
    tile: int | None,
    seed: int | tuple[()],
) -> Json:
    picture = scaled_to(content.array, shape)
    if tile is not None:
        scaled = structure.value_range * picture
        return tiles.content_targets(structure, network.params, scaled, tile)
    return content_target(structure, network.params, jnp.asarray(picture), _traced(seed))


@functools.lru_cache(maxsize=64)
def _style_target(
    structure: Structure,
    network: Network,
    style: Picture,
    shape: tuple[int, ...],
    tile: int | None,
    seed: int | tuple[()],
) -> dict[str, tuple[Any, ...]]:
    picture = scaled_to(style.array, shape)
    if tile is not None:
        return tiles.style_targets(structure, network.params, structure.value_range * picture, tile)
    return style_target(structure, network.params, jnp.asarray(picture), seed=_traced(seed))


@functools.lru_cache(maxsize=64)
def _guided_target(
    structure: Structure,
    network: Network,
    style: Picture,
    shape: tuple[int, ...],
    guide: Guide,
    number: int,
    scale: float,
    seed: int | tuple[()],
) -> dict[str, tuple[Any, ...]]:
    own = guide.of_style(number, shape, structure.style_layers, structure.network, scale)
    picture = jnp.asarray(scaled_to(style.array, shape))
    guidance = jax.tree.map(jnp.asarray, own)
    return style_target(structure, network.params, picture, guidance, _traced(seed))


@functools.lru_cache(maxsize=8)
def _guidance(
    structure: Structure, guide: Guide, shape: tuple[int, ...], scale: float
) -> FeatureMaps:
    found = guide.of_content(shape, structure.style_layers, structure.network, scale)
    return jax.tree.map(jnp.asarray, found)


@functools.lru_cache(maxsize=8)
def _content_weights(
    structure: Structure, content_map: Picture, shape: tuple[int, ...]
) -> FeatureMaps:
    plane = images.area_average(content_map.array, shape[1], shape[0])
    return {
        layer: jnp.asarray(pooled(plane, layer, structure.network)[..., None], jnp.float32)
        for layer in structure.content_layers
    }


def run(job: Job, resume: State | None = None) -> Iterator[Step]:
    """Runs a job, from its start or from where it stood; see `objective.coarse_to_fine`."""
    return alone(run_together([job], [resume]))


def run_together(
    jobs: Sequence[Job], resume: Sequence[State | None]
) -> Iterator[tuple[Step | NstyleError, ...]]:
    """Runs jobs of one kind together, spread over this process's devices.

    See `objective.coarse_to_fine`.

    Args:
      jobs: of runs whose `kind_of` is the same.
      resume: where each stood; None for one that starts.
    """
    devices = jax.local_devices()[: len(jobs)]
    return coarse_to_fine(
        jobs[0].structure,
        [Run(job.stages, job.initial, job.detail) for job in jobs],
        jobs[0].solver,
        resume,
        devices if len(devices) > 1 else None,
    )


def blank_state_of(job: Job, stage: int) -> State:
    """Returns the structure of the states of a job's stage; see `solvers.blank_state`."""
    problem, shape, stopping, _ = job.stages[stage]
    image = jnp.broadcast_to(jnp.zeros((), job.initial.dtype), shape)
    value_range = job.structure.value_range
    return blank_state(objective(job.structure), image, problem, job.solver, stopping, value_range)


def picture_of(step: Step, job: Job) -> np.ndarray:
    """Returns the best picture so far, of the size of the result, not yet clipped to [0, 1].

    Where the loss is of luminance, with the photograph's chrominance.
    """
    image = step.best_image()
    if image.shape != job.stages[-1].shape:
        image = jax.image.resize(image, job.stages[-1].shape, "cubic")
    picture = np.asarray(image) / np.float32(job.structure.value_range)
    return picture if job.photograph is None else colour.with_chrominance(picture, job.photograph)
