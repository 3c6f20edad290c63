"""From settings to a result: reads pictures and weights, builds the objective, runs the solver."""

import dataclasses
import functools
import hashlib
import itertools
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike
from omegaconf import DictConfig

from nstyle import images
from nstyle.arrays import FeatureMaps
from nstyle.config import (
    INITS,
    OUTPUT_KEYS,
    check,
    compose,
    files,
    parse_memory,
    record,
)
from nstyle.errors import NstyleError, nearest
from nstyle.files import path_exists
from nstyle.images import colour
from nstyle.losses import ContentLoss, Smoothing, StyleLoss
from nstyle.networks import (
    NETWORKS,
    Params,
    Pooling,
    gradient_flops,
    layer_names,
    needed,
    scale_pools,
    turned,
    weights,
)
from nstyle.networks.rescaling import rescaled
from nstyle.objective import LossWeights, Problem, References, Structure, Targets, tiles
from nstyle.objective.balance import grey_picture
from nstyle.objective.problems import check_size, content_target, objective, reference, style_target
from nstyle.objective.regions import Guide, Labels, pooled
from nstyle.objective.stages import Detail, Noise, Run, Stage, coarse_to_fine, noise_image
from nstyle.process.machine import memory_limit
from nstyle.records import Record, tried
from nstyle.solvers import Solver, State, Step, Stopping, alone, blank_state

T = TypeVar("T")

#: Pictures as arrays, by the names of the settings whose files they replace.
Given = Mapping[str, np.ndarray | Sequence[np.ndarray]]

#: Edge of the tiles that leave room for the solver's history.
_USUAL_TILE = 256

#: Photograph, painting, start, and what of them is kept at smaller sizes; the command's libraries
#: and the programs of the smaller sizes. Measured at 1400 and 2048 px.
_RUN_PICTURES, _RUN_BYTES = 4, 320 * 2**20

#: Share of content in a loss below which the photograph hardly counts.
LEAST_CONTENT = 0.01

#: Time of an evaluation by tiles over that of the whole picture, measured at 1024 px.
_TILED_COST = 1.3


@dataclass(frozen=True)
class Picture:
    """A picture, float32 (height, width, 3) in [0, 1], known by the hash of its values."""

    digest: str
    array: np.ndarray = field(compare=False, repr=False)

    @classmethod
    def of(cls, array: np.ndarray) -> Self:
        """Returns the picture of an array."""
        return cls(hashlib.sha256(array.tobytes()).hexdigest(), array)


@dataclass(frozen=True)
class Network:
    """Weights on the device, known by the hash of their file and what was done to them."""

    sha256: str
    rescaled_for: Pooling | None
    pooling_factor: float
    pixels: str
    params: Params = field(compare=False, repr=False)


class Size(NamedTuple):
    """One size of a run: the shapes of the result and of the style pictures, steps, and tiles."""

    shape: tuple[int, ...]
    style_shapes: tuple[tuple[int, ...], ...]
    steps: int
    tile: int | None = None


class Plan(NamedTuple):
    """A run whose inputs are read and checked; nothing is computed yet.

    Attributes:
      structure: static part of the objective.
      network: the weights of the network.
      weights: the weights of the terms.
      content: the photograph, where the run has one.
      styles: the paintings, as given; none where the run needs none.
      recoloured: the paintings as they are compared with, see `colour.recoloured`.
      blend: see `objective.Problem`.
      guide: the regions of result and paintings, where the run has them.
      content_map: weights of the content term, of any size, likewise.
      sizes: from the coarsest to that of the result.
      initial: the first picture, of the coarsest size.
      solver: the solver.
      detail: standard deviation, in parts of white, and seed of the noise that a picture gets when
        it is scaled up.
      tolerance: see `solvers.Stopping`.
      balanced: whether terms are divided by their references, see `balance`.
      notes: what the user should know, a line each.
    """

    structure: Structure
    network: Network
    weights: LossWeights
    content: Picture | None
    styles: tuple[Picture, ...]
    recoloured: tuple[Picture, ...]
    blend: tuple[float, ...]
    guide: Guide | None
    content_map: Picture | None
    sizes: tuple[Size, ...]
    initial: Picture
    solver: Solver
    detail: tuple[float, int]
    tolerance: float
    balanced: bool
    notes: tuple[str, ...]

    @property
    def memory(self) -> int:
        """Estimate of the peak memory of a process that makes the run, in bytes."""
        return max(
            _evaluation_bytes(self.structure, size.shape, size.tile)
            + _beside(self.solver, size.shape)
            for size in self.sizes
        )

    @property
    def operations(self) -> float:
        """Floating-point operations of all the run's evaluations."""
        return sum(
            (size.steps + 1)
            * gradient_flops(self.structure.layers, self.structure.network, size.shape)
            * (1.0 if size.tile is None else _TILED_COST)
            for size in self.sizes
        )

    @property
    def records(self) -> tuple[Record, ...]:
        """What decides the result by its code, which may be a user's own."""
        of = self.structure
        return (of.pooling, of.content_loss, of.style_loss, of.smoothing, self.solver)

    @property
    def digests(self) -> dict[str, str]:
        """Hashes of the inputs' contents, by name."""
        pictures: dict[str, Picture | Labels | None] = {
            "content": self.content,
            **_numbered("style", self.styles),
            "init": self.initial,
            "content_weight_map": self.content_map,
        }
        if self.guide is not None:
            pictures["content_mask"] = self.guide.content
            pictures |= _numbered("style_mask", self.guide.styles)
        found = {name: picture.digest for name, picture in pictures.items() if picture is not None}
        return found | {"weights": self.network.sha256}

    @property
    def style_shares(self) -> tuple[float, ...]:
        """The share of each style picture in the style term."""
        if self.guide is None:
            return self.blend[: len(self.styles)]
        left = iter(self.blend)
        counts = [len(self.guide.served(style)) for style in range(len(self.styles))]
        return tuple(sum(itertools.islice(left, count)) for count in counts)


def _numbered(name: str, pictures: Sequence[T]) -> dict[str, T]:
    """Returns pictures by name, with numbers from 1 where there are several."""
    if len(pictures) == 1:
        return {name: pictures[0]}
    return {f"{name}_{number}": picture for number, picture in enumerate(pictures, 1)}


class Kind(NamedTuple):
    """What runs must have in common to be optimised together: all that decides compiled steps.

    Attributes:
      structure: static part of the objective.
      network: the weights of the network, which are not copied.
      solver: the solver.
      tolerance: see `solvers.Stopping`.
      sizes: of the runs, without those of their style pictures.
    """

    structure: Structure
    network: Network
    solver: Solver
    tolerance: float
    sizes: tuple[Size, ...]


class Job(NamedTuple):
    """A run, ready to start.

    Attributes:
      structure: static part of the objective.
      stages: a problem for each size, from the coarsest to that of the result.
      initial: the first picture, of the coarsest size, in [0, `structure.value_range`].
      solver: the solver.
      detail: see `transfer.Run`.
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


class Stylized(NamedTuple):
    """What `stylize` returns.

    Attributes:
      image: the picture of the lowest loss, float32 (height, width, 3), RGB clipped to [0, 1].
      trace: a row for every step, see `row`; `pandas.DataFrame(trace)` makes a table of it.
      loss: the lowest loss.
      stop: why the run ended, a key of `solvers.STOPS`.
    """

    image: np.ndarray
    trace: list[dict[str, float | int]]
    loss: float
    stop: str

    def __repr__(self) -> str:
        """Returns one short line."""
        return (
            f"Stylized(image={self.image.dtype} {self.image.shape}, steps={len(self.trace) - 1},"
            f" loss={self.loss:.4g}, stop={self.stop!r})"
        )


def stylize(
    content: str | Path | ArrayLike | None = None,
    style: str | Path | ArrayLike | Sequence[str | Path | ArrayLike] | None = None,
    **settings: Any,
) -> Stylized:
    """Makes a picture with the content of one picture in the style of another.

    Args:
      content: file, picture of Pillow, or array (height, width, 3): floats in [0, 1] or uint8.
      style: likewise; or several, all files or all pictures and arrays.
      **settings: as on the command line: `size=256, steps=100, recipe="momo", pooling="max",
        style_layers=["conv1_1", "conv2_1"]`. `"solver.history_size": 20` sets a value in a group.

    Raises:
      NstyleError: one line that names what is wrong.
    """
    pictures: dict[str, np.ndarray | Sequence[np.ndarray]] = {}
    for name, given in (("content", content), ("style", style)):
        if given is None:
            continue
        several = list(given) if isinstance(given, list | tuple) else [given]
        if name == "content" and len(several) != 1:
            raise NstyleError(f"content: one picture, not {len(several)} (call stylize for each)")
        if all(isinstance(picture, str | Path) for picture in several):
            files = [str(picture) for picture in several]
            settings[name] = files if len(files) > 1 else files[0]
        elif all(
            hasattr(picture, "__array__") or hasattr(picture, "__array_interface__")
            for picture in several
        ):
            pictures[name] = [_checked_array(name, picture) for picture in several]
        else:
            kinds = ", ".join(type(picture).__name__ for picture in several)
            raise NstyleError(f"{name}: files or arrays are needed, not {kinds}")
    for name in OUTPUT_KEYS:
        if name in settings:
            raise NstyleError(f"{name}: stylize writes no files; see nstyle.session.perform")
    planned = plan(compose(**settings), pictures)
    for note in planned.notes:
        warnings.warn(note, stacklevel=2)
    job = build(planned)
    trace = []
    for step in run(job):
        trace.append(row(step, job))
    return Stylized(np.clip(picture_of(step, job), 0, 1), trace, step.best_value, step.stop)


def structure_of(config: DictConfig, pixels: str) -> Structure:
    """Returns the static part of the settings; `pixels` is the family of the weights.

    Raises:
      NstyleError: a name is not one of those allowed.
    """
    return Structure(
        network=config.network,
        pooling=record(config, Pooling),
        pixels=pixels,
        content_layers=tuple(config.content_layers),
        style_layers=tuple(config.style_layers),
        tv_kind=config.tv_kind,
        value_range=config.value_range,
        precision=config.precision,
        luminance=config.colour in colour.OF_LUMINANCE,
        content_loss=record(config, ContentLoss),
        style_loss=record(config, StyleLoss),
        smoothing=record(config, Smoothing),
        padding=config.padding,
    )


def network_of(config: DictConfig) -> Network:
    """Returns the weights that the settings name, down to the deepest layer that they need.

    Those of the last few calls are kept.

    Raises:
      NstyleError: see `weights.load`.
    """
    return _network(
        config.weights,
        config.network,
        config.pixels,
        record(config, Pooling) if config.rescale else None,
        _pooling_factor(config),
        needed((*config.content_layers, *config.style_layers), config.network),
        config.weights_seed,
        _stamp(config.weights),
    )


def plan(config: DictConfig, pictures: Given = MappingProxyType({})) -> Plan:
    """Reads what the settings name and checks it all.

    Pictures and weights that the last plans read are not read again.

    Args:
      config: from `config.compose`, or what Hydra composed.
      pictures: `content`, one, and `style`, one or several, as arrays in place of files.

    Raises:
      NstyleError: one line that names what is wrong.
    """
    check(config)
    # The family is not known yet; everything else is checked before a file is read.
    structure = structure_of(config, "torchvision")
    content = _content(config, structure, pictures)
    styles = _styles(config, structure, pictures, content)
    recoloured = [_recoloured(config.colour, style, content) for style in styles]
    shape = content.shape if content is not None else _texture_shape(config, styles)
    asked = record(config, Solver)
    tried(asked, Solver)
    _check_memory(config, shape, _beside(asked, shape))
    for name, found in (("content", [] if content is None else [content]), ("style", styles)):
        for picture in found:
            _check_memory(config, picture.shape, 0)
            if getattr(structure, f"{name}_layers"):
                check_size(structure, name, picture.shape)
    guide = _guide(config, pictures, shape, len(styles))
    content_map = _content_map(config, pictures)
    regions = (None,) * max(1, len(styles)) if guide is None else guide.regions

    network = network_of(config)
    structure = dataclasses.replace(
        structure_of(config, network.pixels),
        regions=regions,
        content_weighted=content_map is not None,
    )
    solver = _solver(config, structure, shape, asked)
    sizes = _sizes(config, structure, shape, [style.shape for style in styles], guide, solver)
    initial = _initial(config, structure, sizes, content, recoloured)
    check_size(structure, "init", initial.shape)
    return Plan(
        structure,
        network,
        loss_weights(config, structure),
        None if content is None else Picture.of(content),
        tuple(map(Picture.of, styles)),
        tuple(map(Picture.of, recoloured)),
        _blend(config, guide, max(1, len(styles))),
        guide,
        content_map,
        sizes,
        Picture.of(initial),
        solver,
        (config.pyramid.noise, config.seed),
        config.tolerance,
        config.balance,
        (
            *_notes(config, network.pixels),
            *_judge_notes(config),
            *_history_notes(config, asked, solver),
        ),
    )


def kind_of(planned: Plan) -> Kind:
    """Returns what another run must be like to be optimised together with this one."""
    sizes = tuple(size._replace(style_shapes=()) for size in planned.sizes)
    return Kind(planned.structure, planned.network, planned.solver, planned.tolerance, sizes)


def _sizes(
    config: DictConfig,
    structure: Structure,
    shape: tuple[int, ...],
    style_shapes: Sequence[tuple[int, ...]],
    guide: Guide | None,
    solver: Solver,
) -> tuple[Size, ...]:
    """Returns the sizes of a pyramid at which the network sees all regions, from the coarsest.

    Raises:
      NstyleError: at the size of the result it does not see them all, or a size does not fit.
    """
    pyramid = config.pyramid

    def at(level: int) -> Size:
        def scaled(shape: tuple[int, ...]) -> tuple[int, ...]:
            height, width = (round(side / pyramid.factor**level) for side in shape[:2])
            return height, width, 3

        steps = config.steps
        if level:
            steps = min(steps, round(pyramid.steps * pyramid.factor ** (level - 1)))
        return Size(scaled(shape), tuple(map(scaled, style_shapes)), steps)

    def unseen(size: Size) -> str | None:
        if guide is None:
            return None
        shapes = (size.shape, size.style_shapes)
        return guide.unseen(*shapes, structure.style_layers, structure.network)

    def large_enough(size: Size) -> bool:
        sides = [side for shape in (size.shape, *size.style_shapes) for side in shape[:2]]
        seen = min(sides) >= structure.minimum_size and not unseen(size)
        return max(size.shape) >= pyramid.least and seen

    if lacking := unseen(at(0)):
        raise NstyleError(lacking)
    coarser = [at(level) for level in range(pyramid.levels - 1, 0, -1)]
    sizes = (*filter(large_enough, coarser), at(0))
    # From the largest: where memory is too little, it is the one to tell of.
    tiled = [
        size._replace(tile=_tile(config, structure, size.shape, solver)) for size in sizes[::-1]
    ]
    return tuple(tiled[::-1])


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
    std, seed = planned.detail
    scene = _Scene(
        structure,
        network,
        planned.content,
        planned.recoloured,
        planned.guide,
        planned.content_map,
        seed if structure.style_loss.is_random else None,
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
        structure,
        tuple(stage(size) for size in planned.sizes),
        structure.value_range * jnp.asarray(planned.initial.array),
        planned.solver,
        Detail(std * structure.value_range, jax.random.key(seed)) if std else None,
        planned.content.array if structure.luminance and planned.content is not None else None,
    )


def _problem(scene: _Scene, size: Size, scale: float) -> Problem:
    """Returns the problem of a size, its terms not weighted yet.

    Args:
      scene: what it is made of.
      size: the shapes of its pictures.
      scale: of the size, in parts of the result's.
    """
    structure, network, content, styles, guide, content_map, seed = scene
    shape = size.shape
    style_targets: dict[str, tuple[Any, ...]] = dict.fromkeys(structure.style_layers, ())
    for number, (style, own_shape) in enumerate(zip(styles, size.style_shapes, strict=True)):
        if guide is None or guide.is_whole(number):
            own = _style_target(structure, network, style, own_shape, size.tile)
            copies = 1 if guide is None else len(guide.served(number))
        else:
            own = _guided_target(structure, network, style, own_shape, guide, number, scale)
            copies = 1
        style_targets = {layer: style_targets[layer] + copies * own[layer] for layer in own}
    content_targets = (
        {} if content is None else _content_target(structure, network, content, shape, size.tile)
    )
    return Problem(
        network.params,
        Targets(content_targets, style_targets),
        LossWeights({}, {}),
        () if seed is None else jnp.asarray(seed, jnp.uint32),
        guidance=() if guide is None else _guidance(structure, guide, shape, scale),
        content_weights=()
        if content_map is None
        else _content_weights(structure, content_map, shape),
    )


@functools.lru_cache(maxsize=1024)
def _references(scene: _Scene, size: Size, scale: float) -> References:
    structure, problem = scene.structure, _problem(scene, size, scale)
    content = scene.content
    photograph = grey_picture(size.shape) if content is None else _scaled(content.array, size.shape)
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
) -> dict[str, Any]:
    picture = _scaled(content.array, shape)
    if tile is not None:
        scaled = structure.value_range * picture
        return tiles.content_targets(structure, network.params, scaled, tile)
    return content_target(structure, network.params, jnp.asarray(picture))


@functools.lru_cache(maxsize=64)
def _style_target(
    structure: Structure,
    network: Network,
    style: Picture,
    shape: tuple[int, ...],
    tile: int | None,
) -> dict[str, tuple[Any, ...]]:
    picture = _scaled(style.array, shape)
    if tile is not None:
        return tiles.style_targets(structure, network.params, structure.value_range * picture, tile)
    return style_target(structure, network.params, jnp.asarray(picture))


@functools.lru_cache(maxsize=64)
def _guided_target(
    structure: Structure,
    network: Network,
    style: Picture,
    shape: tuple[int, ...],
    guide: Guide,
    number: int,
    scale: float,
) -> dict[str, tuple[Any, ...]]:
    own = guide.of_style(number, shape, structure.style_layers, structure.network, scale)
    picture = jnp.asarray(_scaled(style.array, shape))
    return style_target(structure, network.params, picture, jax.tree.map(jnp.asarray, own))


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


def _scaled(picture: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return picture if picture.shape == shape else images.resize(picture, shape[1], shape[0])


@functools.lru_cache(maxsize=4)
def _network(
    source: str,
    network: str,
    pixels: str | None,
    rescaled_for: Pooling | None,
    pooling_factor: float,
    layers: tuple[str, ...],
    seed: int,
    stamp: Any,
) -> Network:
    loaded = weights.load(source, network, pixels, seed)
    params = loaded.params if rescaled_for is None else rescaled(loaded, rescaled_for)
    if pooling_factor != 1.0:
        params = scale_pools(params, pooling_factor, network)
    params = {name: params[name] for name in layers}
    return Network(
        loaded.sha256,
        rescaled_for,
        pooling_factor,
        loaded.pixels,
        turned(params, network),
    )


def _pooling_factor(config: DictConfig) -> float:
    """Returns what `pooling_scale` multiplies pooled maps by, beside the pooling's own scale."""
    if config.pooling_scale is None:
        return 1.0
    return float(config.pooling_scale) / record(config, Pooling).scale


@functools.lru_cache(maxsize=32)
def _file(path: str, size: int | str | None, side: str, stamp: Any) -> np.ndarray:
    return images.load(path, size, side)


def _stamp(path: str) -> tuple[int, int] | None:
    """Returns what changes when a file does; None where there is no file."""
    if not path_exists(path):
        return None
    status = Path(path).expanduser().stat()
    return status.st_mtime_ns, status.st_size


def _notes(config: DictConfig, pixels: str) -> Iterator[str]:
    found = {"network": config.network, "pixels": pixels}
    for name, value in found.items():
        tuned = config[f"tuned_{name}"]
        if tuned not in (None, value):
            yield (
                f"the numbers of recipe={config.recipe} were tuned for {name} {tuned},"
                f" this run has {value}: its balance of content, style and total variation differs"
            )


def _judge_notes(config: DictConfig) -> Iterator[str]:
    if config.network == "alexnet" and config.scores:
        yield (
            "lpips_content, style_gram and style_frechet are of AlexNet, which this run optimises:"
            " they flatter it; vgg_score=true adds what VGG-16 says"
        )


def _history_notes(config: DictConfig, asked: Solver, solver: Solver) -> Iterator[str]:
    if solver != asked:
        yield (
            f"the solver keeps {solver.kept} instead of {asked.kept} with memory={config.memory}:"
            " its steps get somewhat less far"
        )


def _evaluation_bytes(structure: Structure, shape: tuple[int, ...], tile: int | None) -> int:
    """Returns the peak memory of a process for one evaluation, by tiles or whole."""
    if tile is not None:
        return tiles.estimate(structure, shape, tile)
    return tiles.PROGRAM_BYTES + NETWORKS[structure.network].evaluation_bytes * shape[0] * shape[1]


def _beside(solver: Solver, shape: tuple[int, ...]) -> int:
    """Returns the memory of a run beside an evaluation: its solver, its pictures."""
    pictures = _RUN_PICTURES * math.prod(shape) * np.float32().nbytes
    return solver.memory_bytes(shape) + pictures + _RUN_BYTES


def _solver(
    config: DictConfig, structure: Structure, shape: tuple[int, ...], asked: Solver
) -> Solver:
    """Returns the solver asked for, with as much memory of its own as there is room for.

    The room is what an evaluation by the tiles of `_USUAL_TILE` leaves: smaller ones for the sake
    of a longer history cost more time than it saves.
    """
    if config.memory is None:
        return asked
    ways = [None, config.tile or _USUAL_TILE] if _can_be_tiled(structure) else [None]
    room = parse_memory(config.memory) - min(
        _evaluation_bytes(structure, shape, tile) for tile in ways
    )
    for solver in asked.ever_smaller():
        if _beside(solver, shape) <= room:
            break
    return solver


def _can_be_tiled(structure: Structure) -> bool:
    try:
        tiles.check_structure(structure)
    except NstyleError:
        return False
    return True


def run(job: Job, resume: State | None = None) -> Iterator[Step]:
    """Runs a job, from its start or from where it stood; see `transfer.coarse_to_fine`."""
    return alone(run_together([job], [resume]))


def run_together(
    jobs: Sequence[Job], resume: Sequence[State | None]
) -> Iterator[tuple[Step | NstyleError, ...]]:
    """Runs jobs of one kind together, spread over this process's devices.

    See `transfer.coarse_to_fine`.

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


def row(step: Step, job: Job) -> dict[str, float | int]:
    """Returns a step as a row of a table.

    `loss`, `content`, `style` and `tv` are weighted, the last three sum to the first;
    `content/LAYER`, `style/LAYER` and `tv/raw` are the terms before their weights. `content_left`
    and `style_left` are the means of those over the layers, by their weights, where they have no
    unit (see `balance`). `size` is the picture's long side: losses of different sizes are of
    different problems, and `best_loss` is of this size.
    """
    content, style, tv = jax.tree.map(float, tuple(step.aux))
    stage = job.stages[step.stage]
    weights = jax.tree.map(float, stage.problem.weights)
    row: dict[str, float | int] = {
        "step": step.step,
        "size": max(stage.shape),
        "loss": step.value,
        "content": _dot(weights.content, content),
        "style": _dot(weights.style, style),
        "tv": weights.tv * tv,
        "best_loss": step.best_value,
        "gradient_norm": step.gradient_norm,
        "restarts": step.restarts,
    }
    if stage.problem.references:
        row |= _left("content", weights.content, content) | _left("style", weights.style, style)
    return row | {
        **{f"content/{layer}": term for layer, term in content.items()},
        **{f"style/{layer}": term for layer, term in style.items()},
        "tv/raw": tv,
    }


def weights_and_references(job: Job) -> dict[str, Any]:
    """Returns, for the record, what terms of the result's size are multiplied and divided by.

    Empty references stand for terms in the units of their losses.
    """
    problem = job.stages[-1].problem
    references = problem.references._asdict() if problem.references else {}
    found = {"weights": problem.weights._asdict(), "references": references}
    return jax.tree.map(float, found)


def content_share(row: Mapping[str, float | int]) -> float | None:
    """Returns the share of the content term in the loss of a row; None where it has none."""
    of_content = any(name.startswith("content/") for name in row)
    return row["content"] / row["loss"] if of_content and row["loss"] else None


def _left(name: str, weights: Mapping[str, float], terms: Mapping[str, float]) -> dict[str, float]:
    """Returns the mean of terms by their weights, or where all are zero by none; none of none."""
    if not terms:
        return {}
    counted = weights if any(weights.values()) else dict.fromkeys(terms, 1.0)
    return {f"{name}_left": _dot(counted, terms) / sum(counted.values())}


def _dot(weights: Mapping[str, float], terms: Mapping[str, float]) -> float:
    return sum(weights[layer] * term for layer, term in terms.items())


def _checked_array(name: str, given: Any) -> np.ndarray:
    picture = images.of_pillow(given, name)
    if picture is None:
        picture = np.asarray(given)
    if picture.dtype == np.uint8:
        picture = picture / np.float32(255)
    if picture.ndim != 3 or picture.shape[-1] != 3 or not picture.size:
        raise NstyleError(f"{name}: an array of shape (height, width, 3), not {picture.shape}")
    if picture.dtype.kind != "f" or not np.isfinite(picture).all():
        raise NstyleError(
            f"{name}: floats from 0 to 1 or uint8 are needed, not {picture.dtype} as given"
        )
    if picture.min() < 0 or picture.max() > 1:
        raise NstyleError(
            f"{name}: values from 0 to 1 are needed, not {picture.min():g} to {picture.max():g}"
        )
    return picture.astype(np.float32)


def _pictures(config: DictConfig, name: str, given: Given, size: int | str) -> list[np.ndarray]:
    def scaled(picture: np.ndarray) -> np.ndarray:
        height, width = picture.shape[:2]
        target = images.scaled_size(width, height, size, config.size_side)
        return picture if target == (width, height) else images.resize(picture, *target)

    if name in given:
        return [scaled(picture) for picture in _given(given, name)]
    named = files(config, name)
    if not named:
        raise NstyleError(f"{name}: no picture given; add {name}=FILE")
    return [_file(file, size, config.size_side, _stamp(file)) for file in named if file]


def _given(given: Given, name: str) -> list[np.ndarray]:
    found = given[name]
    return [found] if isinstance(found, np.ndarray) else list(found)


def _content(config: DictConfig, structure: Structure, given: Given) -> np.ndarray | None:
    needed = structure.content_layers or config.init in ("content", "mixture")
    if not needed and "content" not in given and config.content is None:
        return None
    return _pictures(config, "content", given, config.size)[0]


def _styles(
    config: DictConfig,
    structure: Structure,
    given: Given,
    content: np.ndarray | None,
) -> list[np.ndarray]:
    needed = structure.style_layers or config.init == "style"
    if not needed and "style" not in given and config.style is None:
        return []
    shape = None if content is None else content.shape
    size = style_size(config.style_size, config.size, shape)
    found = _pictures(config, "style", given, size)
    if not config.style_rotation:
        return found
    return [images.rotate(picture, config.style_rotation) for picture in found]


def style_size(
    asked: int | str | None, size: int | str, content: tuple[int, ...] | None
) -> int | str:
    """Returns the size that a style picture is read at.

    Args:
      asked: the setting `style_size`.
      size: of the result.
      content: the shape of the content picture, where there is one.

    Raises:
      NstyleError: the size is to be that of a content picture which is not there.
    """
    if asked == "content":
        if content is None:
            raise NstyleError("style_size: 'content' needs a content picture")
        return f"{content[1]}x{content[0]}"
    asked = size if asked is None else asked
    factor = images.parse_percent(asked)
    return asked if factor is None else images.times(size, factor)


def _recoloured(way: str, style: np.ndarray, content: np.ndarray | None) -> np.ndarray:
    """Returns a painting as it is compared with."""
    return style if content is None else colour.recoloured(style, content, way)


def _texture_shape(config: DictConfig, styles: Sequence[np.ndarray]) -> tuple[int, ...]:
    assert styles, "a structure has content layers or style layers"
    height, width = styles[0].shape[:2]
    width, height = images.scaled_size(width, height, config.size, config.size_side)
    return height, width, 3


def _blend(config: DictConfig, guide: Guide | None, count: int) -> tuple[float, ...]:
    """Returns the share of each style target; see `Problem`."""
    shares = config.style_blend or [1.0] * count
    if len(shares) != count:
        raise NstyleError(
            f"style_blend: {len(shares)} shares for {count} style pictures (give one for each)"
        )
    if guide is not None:
        if config.style_blend is not None and len(set(guide.regions)) == len(guide.regions):
            raise NstyleError("style_blend: no region has two style pictures that it would blend")
        return guide.blend(shares)
    if config.style_blend is not None and count == 1:
        raise NstyleError("style_blend: there is one style picture, it would change nothing")
    return tuple(share / sum(shares) for share in shares)


def _guide(
    config: DictConfig,
    given: Given,
    shape: tuple[int, ...],
    count: int,
) -> Guide | None:
    """Returns the regions of the result and of so many style pictures."""
    if config.content_mask is None:
        return None
    masks = files(config, "style_mask") or [None] * count
    if len(masks) != count:
        raise NstyleError(
            f"style_mask: {len(masks)} for {count} style pictures (give one for each; null for a"
            " whole picture)"
        )
    like = _own_shapes(config, given, "content") or [shape]
    styles = [
        None if mask is None else _labels("style_mask", mask, own)
        for mask, own in zip(masks, _own_shapes(config, given, "style"), strict=True)
    ]
    if config.style_rotation and any(labels and labels.numbers.size > 1 for labels in styles):
        raise NstyleError(
            f"style_rotation: {config.style_rotation:g} degrees turn the style picture, but not its"
            " style_mask (turn both files instead)"
        )
    content = _labels("content_mask", config.content_mask, like[0])
    named = tuple(labels and labels.named_as(content) for labels in styles)
    return Guide(content, named, config.mask_softness)


def _labels(name: str, mask: str, like: tuple[int, ...]) -> Labels:
    """Returns the labels in a file for a picture of some shape; or, of a style, its one colour."""
    colour = images.parse_colour(mask) if name == "style_mask" and not path_exists(mask) else None
    if colour is not None:
        return Labels.plain(colour)
    picture = _plane(name, mask, like)
    return Labels.of(f"{name} {mask}", picture)


def _content_map(config: DictConfig, given: Given) -> Picture | None:
    if config.content_weight_map is None:
        return None
    like = _own_shapes(config, given, "content")
    if not like:
        raise NstyleError("content_weight_map: there is no content picture that it would weigh")
    picture = _plane("content_weight_map", config.content_weight_map, like[0])
    if np.ptp(picture, axis=2).max() > 0:
        raise NstyleError(f"content_weight_map: {config.content_weight_map} is not grey")
    if not picture.any():
        raise NstyleError(f"content_weight_map: {config.content_weight_map} is black everywhere")
    return Picture.of(picture[..., 0])


def _plane(name: str, path: str, like: tuple[int, ...]) -> np.ndarray:
    """Returns a picture that lies on another one, whose shape it must have up to its scale."""
    _check_proportions(name, path, like)
    return _file(path, None, "long", _stamp(path))


def _check_proportions(name: str, path: str, like: tuple[int, ...]) -> None:
    (height, width), (own_height, own_width) = like[:2], images.header(path).shape[:2]
    # Half a pixel either way, of whichever is coarser.
    if abs(height * own_width - width * own_height) > max(height, width, own_height, own_width):
        raise NstyleError(
            f"{name}: {path} is {own_width} x {own_height} pixels, not of the proportions of the"
            f" picture that it is for, {width} x {height}"
        )


def _own_shapes(config: DictConfig, given: Given, name: str) -> list[tuple[int, ...]]:
    """Returns the shapes of pictures as they were given, before they are scaled."""
    if name in given:
        return [picture.shape for picture in _given(given, name)]
    return [images.header(file).shape for file in files(config, name) if file]


def _initial(
    config: DictConfig,
    structure: Structure,
    sizes: Sequence[Size],
    content: np.ndarray | None,
    styles: Sequence[np.ndarray],
) -> np.ndarray:
    """Returns the first picture, on the scale from 0 to 1."""
    shape = sizes[0].shape
    height, width = shape[:2]
    settings = Noise(**config.noise)  # checked even where it is not used

    def noise() -> np.ndarray:
        image = noise_image(settings, jax.random.key(config.seed), shape, structure)
        return np.asarray(image) / np.float32(structure.value_range)

    match config.init:
        case "noise":
            return noise()
        case "content":
            assert content is not None
            return _scaled(content, shape)
        case "mixture":
            assert content is not None
            share = np.float32(config.init_mixture)
            return share * noise() + (1 - share) * _scaled(content, shape)
        case "style":
            return _scaled(styles[0], shape)
        case file if Path(file).expanduser().is_file():
            _check_proportions("init", file, sizes[-1].shape)
            return _file(file, f"{width}x{height}", "long", _stamp(file))
    raise NstyleError(
        f"init: {config.init!r} is neither a picture's file nor a name{nearest(config.init, INITS)}"
        f" (names: {', '.join(INITS)})"
    )


def loss_weights(config: DictConfig, structure: Structure) -> LossWeights:
    """Returns the weight of every term that the settings name."""

    def weights(name: str, layers: tuple[str, ...]) -> dict[str, Any]:
        own, total = (
            layer_weights(config, name, layers, structure.network),
            config[f"{name}_weight"],
        )
        if config.balance:
            total /= sum(own.values()) or 1.0
        return {layer: total * share for layer, share in own.items()}

    return LossWeights(
        weights("content", structure.content_layers),
        weights("style", structure.style_layers),
        config.tv_weight,
    )


def layer_weights(
    config: DictConfig, name: str, layers: tuple[str, ...], network: str
) -> dict[str, float]:
    """Returns what each layer counts in its term: as told, or shares that sum to 1.

    Where terms have no unit it is the weight of a layer in their mean, so that the total is
    `content_weight` times the mean of content terms and `style_weight` times that of style terms.

    Args:
      config: the settings.
      name: `content` or `style`.
      layers: of that term.
      network: whose layers they are; deeper ones come later.
    """
    told = config[f"{name}_layer_weights"]
    if told is not None:
        return dict(zip(layers, told, strict=True))
    falloff = config.style_falloff if name == "style" else 1.0
    by_depth = sorted(layers, key=layer_names(network).index)
    counts = {layer: falloff**-depth for depth, layer in enumerate(by_depth)}
    return {layer: counts[layer] / sum(counts.values()) for layer in layers}


def _tile(
    config: DictConfig, structure: Structure, shape: tuple[int, ...], solver: Solver
) -> int | None:
    """Returns the edge of the tiles by which a size is evaluated; None evaluates it whole."""
    if config.tile is not None:
        tiles.check_structure(structure)
    if config.tile is not None or config.memory is None:
        return config.tile
    beside = _beside(solver, shape)
    left = parse_memory(config.memory) - beside
    if left <= 0:
        raise NstyleError(
            f"memory: {config.memory} is too little: pictures and solver alone take"
            f" {beside / 2**30:.2f} GiB"
        )
    if _evaluation_bytes(structure, shape, None) <= left:
        return None
    tiles.check_structure(structure)
    try:
        return tiles.tile_for(structure, shape, left)
    except NstyleError as error:
        raise NstyleError(f"{error}, the run's other {beside / 2**30:.2f} GiB apart") from error


def _check_memory(config: DictConfig, shape: tuple[int, ...], beside: int) -> None:
    """Refuses a picture that the memory here does not hold whole, with what is beside it."""
    if config.memory is not None or config.tile is not None:
        return
    pixels = shape[0] * shape[1]
    have = memory_limit()
    need = NETWORKS[config.network].evaluation_bytes * pixels + beside
    if need > have:
        fits = int((have / need) ** 0.5 * max(shape[:2]))
        raise NstyleError(
            f"size: {shape[1]} x {shape[0]} pixels need about {need / 2**30:.0f} GiB of memory,"
            f" {have / 2**30:.1f} GiB are here (the largest long side that fits is {fits};"
            " memory=8GiB and the like evaluates larger ones by tiles)"
        )
