"""From settings to a result: reads pictures and weights, builds the objective, runs the solver."""

import dataclasses
import functools
import hashlib
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from omegaconf import DictConfig

from nstyle import images, tiles, weights
from nstyle.batch import EVALUATION_BYTES
from nstyle.config import (
    INITS,
    OUTPUT_KEYS,
    check,
    compose,
    content_loss,
    method,
    parse_memory,
    style_loss,
)
from nstyle.errors import NstyleError, nearest
from nstyle.files import path_exists
from nstyle.layers import gradient_flops
from nstyle.objective import LossWeights, Problem, Structure, Targets
from nstyle.rescaling import rescaled
from nstyle.solver import LBFGS, Course, Method, Stopping, blank_course, memory_bytes
from nstyle.style_losses import is_random
from nstyle.transfer import (
    Detail,
    Moment,
    Noise,
    Stage,
    Standing,
    Turn,
    check_size,
    coarse_to_fine,
    coarse_to_fine_batch,
    content_target,
    equal_weights,
    noise_image,
    objective,
    style_target,
)
from nstyle.vgg import Params

#: Edge of the tiles that leave room for the solver's history, and its least length.
_USUAL_TILE, _LEAST_HISTORY = 256, 5

#: Photograph, painting, start, and what of them is kept at smaller sizes; measured at 2048 px.
_RUN_PICTURES = 4

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
    rescaled_for: str | None
    pixels: str
    params: Params = field(compare=False, repr=False)


class Size(NamedTuple):
    """One size of a run: the shapes of the result and of the style picture, steps, and tiles."""

    shape: tuple[int, ...]
    style_shape: tuple[int, ...] | None
    steps: int
    tile: int | None = None


class Plan(NamedTuple):
    """A run whose inputs are read and checked; nothing is computed yet.

    Attributes:
      structure: static part of the objective.
      network: the weights of the network.
      weights: the weights of the terms.
      content: the photograph, where the run has one.
      style: the painting, likewise.
      sizes: from the coarsest to that of the result.
      initial: the first picture, of the coarsest size.
      method: the solver.
      detail: standard deviation, in parts of white, and seed of the noise that a picture gets when
        it is scaled up.
      tolerance: see `solver.Stopping`.
      notes: what the user should know, a line each.
    """

    structure: Structure
    network: Network
    weights: LossWeights
    content: Picture | None
    style: Picture | None
    sizes: tuple[Size, ...]
    initial: Picture
    method: Method
    detail: tuple[float, int]
    tolerance: float
    notes: tuple[str, ...]

    @property
    def memory(self) -> int:
        """Estimate of the peak memory of a process that makes the run, in bytes."""
        return max(
            _evaluation_bytes(self.structure, size.shape, size.tile)
            + _beside(self.method, size.shape)
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
    def digests(self) -> dict[str, str]:
        """Hashes of the inputs' contents, by name."""
        pictures = {"content": self.content, "style": self.style, "init": self.initial}
        found = {name: picture.digest for name, picture in pictures.items() if picture is not None}
        return found | {"weights": self.network.sha256}


class Kind(NamedTuple):
    """What runs must have in common to be optimised together: all that decides compiled steps.

    Attributes:
      structure: static part of the objective.
      network: the weights of the network, which are not copied.
      method: the solver.
      tolerance: see `solver.Stopping`.
      sizes: of the runs, without those of their style pictures.
    """

    structure: Structure
    network: Network
    method: Method
    tolerance: float
    sizes: tuple[Size, ...]


class Job(NamedTuple):
    """A run, ready to start.

    Attributes:
      structure: static part of the objective.
      stages: a problem for each size, from the coarsest to that of the result.
      initial: the first picture, of the coarsest size, in [0, `structure.value_range`].
      method: the solver.
      detail: see `transfer.coarse_to_fine`.
    """

    structure: Structure
    stages: tuple[Stage, ...]
    initial: jax.Array
    method: Method
    detail: Detail | None

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
      stop: why the run ended, a key of `solver.STOPS`.
    """

    image: np.ndarray
    trace: list[dict[str, float | int]]
    loss: float
    stop: str


def stylize(
    content: str | Path | np.ndarray | None = None,
    style: str | Path | np.ndarray | None = None,
    **settings: Any,
) -> Stylized:
    """Makes a picture with the content of one picture in the style of another.

    Args:
      content: file, or float array (height, width, 3) in [0, 1].
      style: likewise.
      **settings: as on the command line: `size=256, steps=100, recipe="momo", pooling="max",
        style_layers=["conv1_1", "conv2_1"]`. `"solver.history_size": 20` sets a value in a group.

    Raises:
      NstyleError: one line that names what is wrong.
    """
    pictures: dict[str, np.ndarray] = {}
    for name, picture in (("content", content), ("style", style)):
        if isinstance(picture, str | Path):
            settings[name] = str(picture)
        elif hasattr(picture, "__array__"):
            pictures[name] = _checked_array(name, np.asarray(picture))
        elif picture is not None:
            raise NstyleError(f"{name}: a file or an array is needed, not {type(picture).__name__}")
    for name in OUTPUT_KEYS:
        if name in settings:
            raise NstyleError(f"{name}: stylize writes no files; see nstyle.session.perform")
    planned = plan(compose(**settings), pictures)
    for note in planned.notes:
        warnings.warn(note, stacklevel=2)
    job = build(planned)
    trace = []
    for moment in run(job):
        trace.append(row(moment, job))
    end = moment.iteration
    return Stylized(np.clip(picture_of(moment, job), 0, 1), trace, end.best_value, end.stop)


def structure_of(config: DictConfig, pixels: str) -> Structure:
    """Returns the static part of the settings; `pixels` is the family of the weights."""
    return Structure(
        network=config.network,
        pooling=config.pooling,
        pixels=pixels,
        content_layers=tuple(config.content_layers),
        style_layers=tuple(config.style_layers),
        content_reduction=config.content_reduction,
        gram_normalization=config.gram_normalization,
        style_reduction=config.style_reduction,
        tv_kind=config.tv_kind,
        value_range=config.value_range,
        precision=config.precision,
        content_loss=content_loss(config),
        style_loss=style_loss(config),
    )


def network_of(config: DictConfig) -> Network:
    """Returns the weights that the settings name; those of the last few calls are kept.

    Raises:
      NstyleError: see `weights.load`.
    """
    return _network(
        config.weights,
        config.network,
        config.pixels,
        config.pooling if config.rescale else None,
        _stamp(config.weights),
    )


def plan(config: DictConfig, pictures: Mapping[str, np.ndarray] = MappingProxyType({})) -> Plan:
    """Reads what the settings name and checks it all.

    Pictures and weights that the last plans read are not read again.

    Args:
      config: from `config.compose`, or what Hydra composed.
      pictures: `content` and `style` as arrays, in place of files.

    Raises:
      NstyleError: one line that names what is wrong.
    """
    check(config)
    # The family is not known yet; everything else is checked before a file is read.
    structure = structure_of(config, "torchvision")
    content = _content(config, structure, pictures)
    style = _style(config, structure, pictures, content)
    shape = content.shape if content is not None else _texture_shape(config, style)
    asked = method(config)
    _check_memory(config, shape, _beside(asked, shape))
    for name, picture in (("content", content), ("style", style)):
        if picture is not None:
            _check_memory(config, picture.shape, 0)
            if getattr(structure, f"{name}_layers"):
                check_size(structure, name, picture.shape)

    network = network_of(config)
    structure = structure_of(config, network.pixels)
    solver = _solver(config, structure, shape, asked)
    sizes = _sizes(config, structure, shape, None if style is None else style.shape, solver)
    initial = _initial(config, structure, sizes[0].shape, content, style)
    check_size(structure, "init", initial.shape)
    return Plan(
        structure,
        network,
        loss_weights(config, structure),
        None if content is None else Picture.of(content),
        None if style is None else Picture.of(style),
        sizes,
        Picture.of(initial),
        solver,
        (config.pyramid.noise, config.seed),
        config.tolerance,
        (*_notes(config, network.pixels), *_history_notes(config, asked, solver)),
    )


def kind_of(planned: Plan) -> Kind:
    """Returns what another run must be like to be optimised together with this one."""
    sizes = tuple(size._replace(style_shape=None) for size in planned.sizes)
    return Kind(planned.structure, planned.network, planned.method, planned.tolerance, sizes)


def _sizes(
    config: DictConfig,
    structure: Structure,
    shape: tuple[int, ...],
    style_shape: tuple[int, ...] | None,
    solver: Method,
) -> tuple[Size, ...]:
    """Returns the sizes of a pyramid that the network sees, from the coarsest."""
    pyramid = config.pyramid

    def at(level: int) -> Size:
        def scaled(shape: tuple[int, ...]) -> tuple[int, ...]:
            height, width = (round(side / pyramid.factor**level) for side in shape[:2])
            return height, width, 3

        steps = config.steps
        if level:
            steps = min(steps, round(pyramid.steps * pyramid.factor ** (level - 1)))
        return Size(scaled(shape), style_shape and scaled(style_shape), steps)

    def large_enough(size: Size) -> bool:
        shapes = [size.shape, *([size.style_shape] if size.style_shape else [])]
        sides = [side for shape in shapes for side in shape[:2]]
        return max(size.shape) >= pyramid.least and min(sides) >= structure.minimum_size

    coarser = [at(level) for level in range(pyramid.levels - 1, 0, -1)]
    sizes = (*filter(large_enough, coarser), at(0))
    # From the largest: where memory is too little, it is the one to tell of.
    tiled = [
        size._replace(tile=_tile(config, structure, size.shape, solver)) for size in sizes[::-1]
    ]
    if structure.precision != "float32" and any(size.tile is not None for size in tiled):
        raise NstyleError(
            f"precision: {structure.precision} is not for tiles, which memory or tile asks for here"
        )
    return tuple(tiled[::-1])


def build(planned: Plan) -> Job:
    """Computes the targets of a plan, once for each picture and structure, and gathers the rest."""
    structure, network = planned.structure, planned.network
    std, seed = planned.detail

    def stage(size: Size) -> Stage:
        shape, style_shape, steps, tile = size
        content, style = planned.content, planned.style
        targets = Targets(
            {} if content is None else _content_target(structure, network, content, shape, tile),
            {} if style is None else _style_target(structure, network, style, style_shape, tile),
        )
        drawing = jnp.asarray(seed, jnp.uint32) if is_random(structure.style_loss) else ()
        problem = Problem(network.params, targets, planned.weights, drawing)
        return Stage(problem, shape, Stopping(steps, planned.tolerance), tile)

    return Job(
        structure,
        tuple(stage(size) for size in planned.sizes),
        structure.value_range * jnp.asarray(planned.initial.array),
        planned.method,
        Detail(std * structure.value_range, jax.random.key(seed)) if std else None,
    )


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
) -> dict[str, Any]:
    picture = _scaled(style.array, shape)
    if tile is not None:
        return tiles.style_targets(structure, network.params, structure.value_range * picture, tile)
    return style_target(structure, network.params, jnp.asarray(picture))


def _scaled(picture: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return picture if picture.shape == shape else images.resize(picture, shape[1], shape[0])


@functools.lru_cache(maxsize=4)
def _network(
    source: str, network: str, pixels: str | None, rescaled_for: str | None, stamp: Any
) -> Network:
    loaded = weights.load(source, network, pixels)
    params = loaded.params if rescaled_for is None else rescaled(loaded, rescaled_for)
    return Network(loaded.sha256, rescaled_for, loaded.pixels, jax.tree.map(jnp.asarray, params))


@functools.lru_cache(maxsize=32)
def _file(path: str, size: int | str, side: str, stamp: Any) -> np.ndarray:
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


def _history_notes(config: DictConfig, asked: Method, solver: Method) -> Iterator[str]:
    if solver != asked:
        assert isinstance(solver, LBFGS) and isinstance(asked, LBFGS)
        yield (
            f"L-BFGS keeps {solver.history_size} pairs instead of {asked.history_size} with"
            f" memory={config.memory}: its steps get somewhat less far"
        )


def _evaluation_bytes(structure: Structure, shape: tuple[int, ...], tile: int | None) -> int:
    """Returns the peak memory of a process for one evaluation, by tiles or whole."""
    if tile is not None:
        return tiles.estimate(structure, shape, tile)
    return tiles.PROGRAM_BYTES + EVALUATION_BYTES * shape[0] * shape[1]


def _beside(solver: Method, shape: tuple[int, ...]) -> int:
    """Returns the memory of a run beside an evaluation: its solver, its pictures."""
    return memory_bytes(solver, shape) + _RUN_PICTURES * math.prod(shape) * np.float32().nbytes


def _solver(
    config: DictConfig, structure: Structure, shape: tuple[int, ...], asked: Method
) -> Method:
    """Returns the solver asked for, L-BFGS with as long a history as the memory leaves room for.

    The room is what an evaluation by the tiles of `_USUAL_TILE` leaves: smaller ones for the sake
    of a longer history cost more time than it saves.
    """
    if config.memory is None or not isinstance(asked, LBFGS):
        return asked
    usual = (
        _evaluation_bytes(structure, shape, tile) for tile in (None, config.tile or _USUAL_TILE)
    )
    room = parse_memory(config.memory) - min(usual)
    least = min(_LEAST_HISTORY, asked.history_size)
    for pairs in range(asked.history_size, least, -1):
        solver = dataclasses.replace(asked, history_size=pairs)
        if _beside(solver, shape) <= room:
            return solver
    return dataclasses.replace(asked, history_size=least)


def run(job: Job, resume: Standing | None = None) -> Iterator[Moment]:
    """Runs a job, from its start or from where it stood; see `transfer.coarse_to_fine`."""
    return coarse_to_fine(job.structure, job.stages, job.initial, job.method, job.detail, resume)


def run_together(jobs: Sequence[Job], resume: Sequence[Standing | None]) -> Iterator[Turn]:
    """Runs jobs of one kind together, spread over this process's devices; one as `run` does.

    See `transfer.coarse_to_fine_batch`; where a single job cannot be run that is its failure.

    Args:
      jobs: of runs whose `kind_of` is the same.
      resume: where each stood; None for one that starts.
    """
    if len(jobs) == 1:
        try:
            for moment in run(jobs[0], resume[0]):
                yield Turn({0: moment}, (0,), {})
        except NstyleError as error:
            yield Turn({}, (), {0: error})
        return
    devices = jax.local_devices()[: len(jobs)]
    yield from coarse_to_fine_batch(
        jobs[0].structure,
        [job.stages for job in jobs],
        [job.initial for job in jobs],
        jobs[0].method,
        [job.detail for job in jobs],
        resume,
        devices if len(devices) > 1 else None,
    )


def blank_course_of(job: Job, stage: int) -> Course:
    """Returns the structure of the courses of a job's stage; see `solver.blank_course`."""
    problem, shape, stopping, _ = job.stages[stage]
    image = jnp.broadcast_to(jnp.zeros((), job.initial.dtype), shape)
    value_range = job.structure.value_range
    return blank_course(objective(job.structure), image, problem, job.method, stopping, value_range)


def picture_of(moment: Moment, job: Job) -> np.ndarray:
    """Returns the best picture so far, of the size of the result, not yet clipped to [0, 1]."""
    image = moment.best_image()
    if image.shape != job.stages[-1].shape:
        image = jax.image.resize(image, job.stages[-1].shape, "cubic")
    return np.asarray(image) / np.float32(job.structure.value_range)


def row(moment: Moment, job: Job) -> dict[str, float | int]:
    """Returns a step as a row of a table.

    `loss`, `content`, `style` and `tv` are weighted, the last three sum to the first;
    `content/LAYER`, `style/LAYER` and `tv/raw` are the terms before their weights. `size` is the
    picture's long side: losses of different sizes are of different problems, and `best_loss` is of
    this size.
    """
    iteration = moment.iteration
    content, style, tv = jax.tree.map(float, tuple(iteration.aux))
    stage = job.stages[moment.stage]
    weights = stage.problem.weights
    return {
        "step": moment.step,
        "size": max(stage.shape),
        "loss": iteration.value,
        "content": sum(float(weights.content[key]) * term for key, term in content.items()),
        "style": sum(float(weights.style[key]) * term for key, term in style.items()),
        "tv": float(weights.tv) * tv,
        "best_loss": iteration.best_value,
        "gradient_norm": iteration.gradient_norm,
        "restarts": iteration.restarts,
        **{f"content/{layer}": term for layer, term in content.items()},
        **{f"style/{layer}": term for layer, term in style.items()},
        "tv/raw": tv,
    }


def _checked_array(name: str, picture: np.ndarray) -> np.ndarray:
    if picture.ndim != 3 or picture.shape[-1] != 3 or not picture.size:
        raise NstyleError(f"{name}: an array of shape (height, width, 3), not {picture.shape}")
    if picture.dtype.kind != "f" or not np.isfinite(picture).all():
        raise NstyleError(f"{name}: floats from 0 to 1 are needed, not {picture.dtype} as given")
    if picture.min() < 0 or picture.max() > 1:
        raise NstyleError(
            f"{name}: values from 0 to 1 are needed, not {picture.min():g} to {picture.max():g}"
        )
    return picture.astype(np.float32)


def _picture(
    config: DictConfig, name: str, given: Mapping[str, np.ndarray], size: int | str
) -> np.ndarray:
    if name in given:
        picture = given[name]
        height, width = picture.shape[:2]
        target = images.scaled_size(width, height, size, config.size_side)
        return picture if target == (width, height) else images.resize(picture, *target)
    if config[name] is None:
        raise NstyleError(f"{name}: no picture given; add {name}=FILE")
    return _file(config[name], size, config.size_side, _stamp(config[name]))


def _content(
    config: DictConfig, structure: Structure, given: Mapping[str, np.ndarray]
) -> np.ndarray | None:
    needed = structure.content_layers or config.init in ("content", "mixture")
    if not needed and "content" not in given and config.content is None:
        return None
    return _picture(config, "content", given, config.size)


def _style(
    config: DictConfig,
    structure: Structure,
    given: Mapping[str, np.ndarray],
    content: np.ndarray | None,
) -> np.ndarray | None:
    needed = structure.style_layers or config.init == "style"
    if not needed and "style" not in given and config.style is None:
        return None
    size = config.size if config.style_size is None else config.style_size
    if size == "content":
        if content is None:
            raise NstyleError("style_size: 'content' needs a content picture")
        size = f"{content.shape[1]}x{content.shape[0]}"
    return _picture(config, "style", given, size)


def _texture_shape(config: DictConfig, style: np.ndarray | None) -> tuple[int, ...]:
    assert style is not None, "a structure has content layers or style layers"
    width, height = images.scaled_size(
        style.shape[1], style.shape[0], config.size, config.size_side
    )
    return height, width, 3


def _initial(
    config: DictConfig,
    structure: Structure,
    shape: tuple[int, ...],
    content: np.ndarray | None,
    style: np.ndarray | None,
) -> np.ndarray:
    """Returns the first picture, on the scale from 0 to 1."""
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
            assert style is not None
            return _scaled(style, shape)
        case file if Path(file).expanduser().is_file():
            return _file(file, f"{width}x{height}", "long", _stamp(file))
    raise NstyleError(
        f"init: {config.init!r} is neither a picture's file nor a name{nearest(config.init, INITS)}"
        f" (names: {', '.join(INITS)})"
    )


def loss_weights(config: DictConfig, structure: Structure) -> LossWeights:
    """Returns the weight of every term that the settings name."""
    shares = {}
    for name, layers in (("content", structure.content_layers), ("style", structure.style_layers)):
        own = config[f"{name}_layer_weights"]
        total = config[f"{name}_weight"] * config[f"{name}_loss"].scale
        shares[name] = (
            equal_weights(layers, total)
            if own is None
            else {layer: total * weight for layer, weight in zip(layers, own, strict=True)}
        )
    return LossWeights(shares["content"], shares["style"], config.tv_weight)


def _tile(
    config: DictConfig, structure: Structure, shape: tuple[int, ...], solver: Method
) -> int | None:
    """Returns the edge of the tiles by which a size is evaluated; None evaluates it whole."""
    if config.tile is not None:
        tiles.check_losses(structure)
    if config.tile is not None or config.memory is None:
        return config.tile
    beside = _beside(solver, shape)
    left = parse_memory(config.memory) - beside
    if _evaluation_bytes(structure, shape, None) <= left:
        return None
    tiles.check_losses(structure)
    try:
        return tiles.tile_for(structure, shape, left)
    except NstyleError as error:
        raise NstyleError(f"{error}, the run's other {beside / 2**30:.2f} GiB apart") from error


def _check_memory(config: DictConfig, shape: tuple[int, ...], beside: int) -> None:
    """Refuses a picture that this machine's memory does not hold whole, with what is beside it."""
    if config.memory is not None or config.tile is not None:
        return
    pixels = shape[0] * shape[1]
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    need = EVALUATION_BYTES * pixels + beside
    if need > have:
        fits = int((have / need) ** 0.5 * max(shape[:2]))
        raise NstyleError(
            f"size: {shape[1]} x {shape[0]} pixels need about {need / 2**30:.0f} GiB of memory,"
            f" this machine has {have / 2**30:.0f} GiB (the largest long side that fits is {fits};"
            " memory=8GiB and the like evaluates larger ones by tiles)"
        )
