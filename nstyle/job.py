"""From settings to a result: reads pictures and weights, builds the objective, runs the solver."""

import functools
import hashlib
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from omegaconf import DictConfig

from nstyle import images, weights
from nstyle.config import INITS, OUTPUT_KEYS, check, compose, method
from nstyle.errors import NstyleError, nearest
from nstyle.files import path_exists
from nstyle.losses import FeatureMaps, GramMatrices
from nstyle.objective import LossWeights, Problem, Structure, Targets
from nstyle.rescaling import rescaled
from nstyle.solver import Course, Iteration, Method, Stopping, blank_course
from nstyle.transfer import (
    Noise,
    check_size,
    content_target,
    equal_weights,
    noise_image,
    objective,
    style_target,
    transfer,
)
from nstyle.vgg import Params

#: Most memory of one evaluation, in bytes a pixel (measured with VGG-16 and VGG-19 up to conv5_1).
_BYTES_PER_PIXEL = 2600


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


class Plan(NamedTuple):
    """A run whose inputs are read and checked; nothing is computed yet.

    Attributes:
      structure: static part of the objective.
      network: the weights of the network.
      weights: the weights of the terms.
      content: the photograph, where the run has one.
      style: the painting, likewise.
      initial: the first picture.
      method: the solver.
      stopping: limits.
      notes: what the user should know, a line each.
    """

    structure: Structure
    network: Network
    weights: LossWeights
    content: Picture | None
    style: Picture | None
    initial: Picture
    method: Method
    stopping: Stopping
    notes: tuple[str, ...]

    @property
    def digests(self) -> dict[str, str]:
        """Hashes of the inputs' contents, by name."""
        pictures = {"content": self.content, "style": self.style, "init": self.initial}
        found = {name: picture.digest for name, picture in pictures.items() if picture is not None}
        return found | {"weights": self.network.sha256}


class Job(NamedTuple):
    """A run, ready to start.

    Attributes:
      structure: static part of the objective.
      problem: network, targets and weights of the terms.
      initial: the first picture, in [0, `structure.value_range`].
      method: the solver.
      stopping: limits.
    """

    structure: Structure
    problem: Problem
    initial: jax.Array
    method: Method
    stopping: Stopping


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
    for iteration in run(job):
        trace.append(row(iteration, job))
    return Stylized(
        np.clip(picture_of(iteration, job), 0, 1), trace, iteration.best_value, iteration.stop
    )


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
    _check_memory(shape)
    for name, picture in (("content", content), ("style", style)):
        if picture is not None:
            _check_memory(picture.shape)
            if getattr(structure, f"{name}_layers"):
                check_size(structure, name, picture.shape)

    network = _network(
        config.weights,
        config.network,
        config.pixels,
        config.pooling if config.rescale else None,
        _stamp(config.weights),
    )
    structure = structure_of(config, network.pixels)
    initial = _initial(config, structure, shape, content, style)
    check_size(structure, "init", initial.shape)
    return Plan(
        structure,
        network,
        _loss_weights(config, structure),
        None if content is None else Picture.of(content),
        None if style is None else Picture.of(style),
        Picture.of(initial),
        method(config),
        Stopping(steps=config.steps, tolerance=config.tolerance),
        tuple(_notes(config, network.pixels)),
    )


def build(planned: Plan) -> Job:
    """Computes the targets of a plan, once for each picture and structure, and gathers the rest."""
    structure, network = planned.structure, planned.network
    targets = Targets(
        content={}
        if planned.content is None
        else _content_target(structure, network, planned.content),
        style={} if planned.style is None else _style_target(structure, network, planned.style),
    )
    return Job(
        structure,
        Problem(network.params, targets, planned.weights),
        structure.value_range * jnp.asarray(planned.initial.array),
        planned.method,
        planned.stopping,
    )


@functools.lru_cache(maxsize=8)
def _content_target(structure: Structure, network: Network, content: Picture) -> FeatureMaps:
    return content_target(structure, network.params, jnp.asarray(content.array))


@functools.lru_cache(maxsize=64)
def _style_target(structure: Structure, network: Network, style: Picture) -> GramMatrices:
    return style_target(structure, network.params, jnp.asarray(style.array))


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


def run(job: Job, resume: Course | None = None) -> Iterator[Iteration]:
    """Runs a job, from its start or from an earlier course of it; see `solver.minimize`."""
    return transfer(job.structure, job.problem, job.initial, job.method, job.stopping, resume)


def blank_course_of(job: Job) -> Course:
    """Returns the structure of a job's courses; see `solver.blank_course`."""
    return blank_course(
        objective(job.structure),
        job.initial,
        job.problem,
        job.method,
        job.stopping,
        job.structure.value_range,
    )


def picture_of(iteration: Iteration, job: Job) -> np.ndarray:
    """Returns the best picture so far, not yet clipped to [0, 1]."""
    return np.asarray(iteration.best_image) / np.float32(job.structure.value_range)


def row(iteration: Iteration, job: Job) -> dict[str, float | int]:
    """Returns a step as a row of a table.

    `loss`, `content`, `style` and `tv` are weighted, the last three sum to the first;
    `content/LAYER`, `style/LAYER` and `tv/raw` are the terms before their weights.
    """
    content, style, tv = jax.tree.map(float, tuple(iteration.aux))
    weights = job.problem.weights
    return {
        "step": iteration.step,
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
            return content
        case "mixture":
            assert content is not None
            share = np.float32(config.init_mixture)
            return share * noise() + (1 - share) * content
        case "style":
            assert style is not None
            return style if style.shape == shape else images.resize(style, width, height)
        case file if Path(file).expanduser().is_file():
            return _file(file, f"{width}x{height}", "long", _stamp(file))
    raise NstyleError(
        f"init: {config.init!r} is neither a picture's file nor a name{nearest(config.init, INITS)}"
        f" (names: {', '.join(INITS)})"
    )


def _loss_weights(config: DictConfig, structure: Structure) -> LossWeights:
    shares = {}
    for name, layers in (("content", structure.content_layers), ("style", structure.style_layers)):
        own = config[f"{name}_layer_weights"]
        total = config[f"{name}_weight"]
        shares[name] = (
            equal_weights(layers, total)
            if own is None
            else {layer: total * weight for layer, weight in zip(layers, own, strict=True)}
        )
    return LossWeights(shares["content"], shares["style"], config.tv_weight)


def _check_memory(shape: tuple[int, ...]) -> None:
    pixels = shape[0] * shape[1]
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    need = _BYTES_PER_PIXEL * pixels
    if need > have:
        fits = int((have / need) ** 0.5 * max(shape[:2]))
        raise NstyleError(
            f"size: {shape[1]} x {shape[0]} pixels need about {need / 2**30:.0f} GiB of memory,"
            f" this machine has {have / 2**30:.0f} GiB (the largest long side that fits is {fits})"
        )
